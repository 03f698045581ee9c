{{- define "kontrol.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "kontrol" .Release.Name -}}
{{- .Release.Name | trunc 42 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-kontrol" (.Release.Name | trunc 34 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* The labels that select the operator's pods: they never change. */}}
{{- define "kontrol.selector" -}}
app.kubernetes.io/name: kontrol
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "kontrol.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: kontrol
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kontrol
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "kontrol.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (printf "%s-operator" (include "kontrol.fullname" .)) -}}
{{- end -}}

{{/* The operator's name towards the API server. */}}
{{- define "kontrol.username" -}}
{{- printf "system:serviceaccount:%s:%s" .Release.Namespace (include "kontrol.serviceAccount" .) -}}
{{- end -}}

{{/* An image's reference, of a dict with `image` and `root`. */}}
{{- define "kontrol.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "kontrol.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "kontrol.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Which namespaces a NetworkPolicy's peer or a policy's binding may be in: those that the operator looks after. */}}
{{- define "kontrol.namespaces" -}}
{{- if .Values.watchNamespaces -}}
matchExpressions:
- key: kubernetes.io/metadata.name
  operator: In
  values: {{ toJson .Values.watchNamespaces }}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* CEL: the request is not the operator's own, nor one that the values exempt. */}}
{{- define "kontrol.notExempt" -}}
!(request.userInfo.username in {{ prepend .Values.policies.exemptUsers (include "kontrol.username" .) | toJson | replace "\"" "'" }})
{{- with .Values.policies.exemptGroups }} && !request.userInfo.groups.exists(g, g in {{ toJson . | replace "\"" "'" }}){{ end }}
{{- end -}}
