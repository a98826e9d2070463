{{- /* What values contradict one another: a schema sees each alone. Each is a sentence. */}}
{{- define "corral.check" -}}
{{- $config := .Values.config }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "corral.name" .)) }}
{{- fail (printf "release %s: services are named after it, and a service's name begins with a letter and holds small letters, digits and hyphens" .Release.Name) }}
{{- end }}
{{- $test := default (dict) .Values.test.labels }}
{{- $isServer := eq (index $test "app.kubernetes.io/name" | default "") .Chart.Name }}
{{- if and $isServer (eq (index $test "app.kubernetes.io/instance" | default .Release.Name) .Release.Name) }}
{{- fail (printf "test.labels: with app.kubernetes.io/name %s services would take the pod of helm test for a server" .Chart.Name) }}
{{- end }}
{{- $context := default (dict) .Values.podSecurityContext }}
{{- if and $context.runAsNonRoot (hasKey $context "runAsUser") (eq (int64 $context.runAsUser) 0) }}
{{- fail "podSecurityContext.runAsUser 0 is root, and runAsNonRoot starts no such pod" }}
{{- end }}
{{- $zoo := include "corral.zoo" . }}
{{- if and $zoo (eq (include "corral.cache" .) "emptyDir") (not .Values.image.canPrepare) (ne (default "" $config.backend) "null") }}
{{- fail (printf "cache.kind emptyDir hides what the image holds, and %s is prepared anew, which takes torch: leave cache.kind out and use an image built with PREPARE (make image), or say image.canPrepare: true for one that has torch" ($config.model | default "resnet50")) }}
{{- end }}
{{- if and (not $zoo) (hasPrefix "/mnt/models" $config.model) (not .Values.modelVolume) }}
{{- fail (printf "config.model %s is in modelVolume, and there is none" $config.model) }}
{{- end }}
{{- if and $zoo $config.shape }}
{{- fail (printf "config.shape is for a file of your own, not for %s" ($config.model | default "resnet50")) }}
{{- end }}
{{- if and (eq .Values.cache.kind "claim") (not .Values.cache.claimName) }}
{{- fail "cache.kind claim needs cache.claimName" }}
{{- end }}
{{- if and (index $config "allow-client") (not .Values.tls.clientCaSecretName) }}
{{- fail "config.allow-client goes by client certificates: it needs tls.clientCaSecretName" }}
{{- end }}
{{- $cpus := .Values.cpus | int64 }}
{{- $width := 1 }}
{{- with index $config "cores-per-worker" }}{{ if not (kindIs "string" .) }}{{ $width = int64 . }}{{ end }}{{ end }}
{{- if gt (int64 $width) $cpus }}
{{- fail (printf "config.cores-per-worker %d: a pod has %d CPUs (cpus)" (int64 $width) $cpus) }}
{{- end }}
{{- $workers := index $config "workers" | default 0 | int64 }}
{{- if and (gt (mul $workers $width) $cpus) (not $config.oversubscribe) }}
{{- fail (printf "config.workers %d of %d cores: a pod has %d CPUs (cpus)" $workers (int64 $width) $cpus) }}
{{- end }}
{{- $cells := $config.cells | default 0 | int64 }}
{{- if and $workers (gt $cells $workers) }}
{{- fail (printf "config.cells %d: each needs a worker, and config.workers is %d" $cells $workers) }}
{{- end }}
{{- if and (gt $cells $cpus) (not $config.oversubscribe) }}
{{- fail (printf "config.cells %d: each needs a worker, and a pod has %d CPUs (cpus)" $cells $cpus) }}
{{- end }}
{{- if gt (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas %d is more than maxReplicas, %d" (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas)) }}
{{- end }}
{{- if .Values.podMonitor.enabled }}
{{- if and .Values.tls.clientCaSecretName (not .Values.podMonitor.clientSecretName) }}
{{- fail "podMonitor needs a certificate of Prometheus' own, for tls.clientCaSecretName asks for one: podMonitor.clientSecretName" }}
{{- end }}
{{- if and .Values.auth.secretName (not (index $config "allow-client")) (not .Values.podMonitor.tokenSecretName) }}
{{- fail "podMonitor needs a token of Prometheus' own, for auth.secretName asks for one and holds tokens one a line: podMonitor.tokenSecretName" }}
{{- end }}
{{- end }}
{{- end }}
