// The resource definitions of the Prometheus operator, against which the chart's monitors are checked.
module kontrol.dev/tools/chart

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
