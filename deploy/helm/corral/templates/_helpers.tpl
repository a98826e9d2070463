{{- define "corral.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "corral.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "corral.labels" -}}
{{ include "corral.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "corral.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "corral.scheme" -}}
{{ if .Values.tls.secretName }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{- define "corral.drainDelay" -}}
{{ if eq .Values.drain.by "server" }}{{ .Values.drain.delaySeconds | int64 }}{{ else }}0{{ end }}
{{- end }}

{{- /* A model of the zoo has a name, a file of your own a path. */}}
{{- define "corral.zoo" -}}
{{ if not (contains "/" (.Values.config.model | default "resnet50")) }}yes{{ end }}
{{- end }}

{{- define "corral.cache" -}}
{{ if ne .Values.cache.kind "auto" }}{{ .Values.cache.kind }}{{ else if include "corral.zoo" . }}image{{ else }}emptyDir{{ end }}
{{- end }}

{{- /* Whether helm test can be let in: not where its own certificate or token is missing. */}}
{{- define "corral.testable" -}}
{{- $noCertificate := and .Values.tls.clientCaSecretName (not .Values.test.clientSecretName) }}
{{- $noToken := and .Values.auth.secretName (not .Values.test.tokenSecretName) }}
{{- if not (or $noCertificate $noToken) }}yes{{ end }}
{{- end }}

{{- define "corral.podSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
