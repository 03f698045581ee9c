#!/bin/sh
# What kubectl asks for the completion of `kubectl kontrol`.
exec kubectl-kontrol __complete -- kubectl-kontrol "$@"
