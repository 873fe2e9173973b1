{{- define "sip-bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters: a pod's name is a label, and Services add their own ends. */}}
{{- define "sip-bridge.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "sip-bridge.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sip-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sip-bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: bridge
{{- end -}}

{{- define "sip-bridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "sip-bridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "sip-bridge.trialRedis.name" -}}
{{ include "sip-bridge.fullname" . }}-trial-redis
{{- end -}}

{{- define "sip-bridge.trialRedis.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sip-bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: trial-redis
{{- end -}}

{{- define "sip-bridge.trialRedis.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "sip-bridge.trialRedis.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* How many pods there may be: for so many, files, Services and addresses are made. */}}
{{- define "sip-bridge.podsMost" -}}
{{- ternary .Values.replicas .Values.autoscaling.maxReplicas (eq .Values.autoscaling.by "none") -}}
{{- end -}}

{{/* How many there are at least. */}}
{{- define "sip-bridge.podsLeast" -}}
{{- ternary .Values.replicas .Values.autoscaling.minReplicas (eq .Values.autoscaling.by "none") -}}
{{- end -}}

{{/* "true" where nobody has given the cluster's secret, else empty. */}}
{{- define "sip-bridge.makesClusterSecret" -}}
{{- if not (or .Values.clusterSecret.value .Values.clusterSecret.secretKey) -}}true{{- end -}}
{{- end -}}

{{/* What picks this release's pods among everybody's metrics. */}}
{{- define "sip-bridge.metricsSelector" -}}
namespace="{{ .Release.Namespace }}",pod=~"{{ include "sip-bridge.fullname" . }}-[0-9]+"
{{- end -}}

{{- define "sip-bridge.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "sip-bridge.serviceAccountName" -}}
{{- $own := ternary (include "sip-bridge.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $own .Values.serviceAccount.name -}}
{{- end -}}

{{/* "true" where Services carry calls, else empty. */}}
{{- define "sip-bridge.hasServices" -}}
{{- if has .Values.network.mode (list "service-per-pod" "shared-sip") -}}true{{- end -}}
{{- end -}}

{{/* "true" where node ports do, which a whole cluster shares: each pod has its own there. */}}
{{- define "sip-bridge.hasNodePorts" -}}
{{- if and (include "sip-bridge.hasServices" .) (eq .Values.network.service.type "NodePort") -}}true{{- end -}}
{{- end -}}

{{/* "true" where TLS is spoken, else empty. */}}
{{- define "sip-bridge.hasTls" -}}
{{- if or (has "tls" .Values.transports) (has "wss" .Values.transports) -}}true{{- end -}}
{{- end -}}

{{/* The Secret that has the certificate. */}}
{{- define "sip-bridge.tlsSecret" -}}
{{- default (printf "%s-tls" (include "sip-bridge.fullname" .)) .Values.tls.secretName -}}
{{- end -}}

{{/* Which of `ports` a transport has: that of UDP and TCP is one. */}}
{{- define "sip-bridge.portName" -}}
{{- get (dict "tls" "sips" "ws" "ws" "wss" "wss") . | default "sip" -}}
{{- end -}}

{{/* The port of a pod for one transport. Takes {root, ordinal, transport}. */}}
{{- define "sip-bridge.sipPort" -}}
{{- $own := and (include "sip-bridge.hasNodePorts" .root) (eq .root.Values.network.mode "service-per-pod") -}}
{{- $first := index .root.Values.ports (include "sip-bridge.portName" .transport) -}}
{{- add $first (ternary .ordinal 0 (not (empty $own))) -}}
{{- end -}}

{{/* The first media port of a pod. Takes {root, ordinal}. */}}
{{- define "sip-bridge.mediaFirst" -}}
{{- $own := include "sip-bridge.hasNodePorts" .root -}}
{{- add .root.Values.ports.mediaFirst (mul 2 .root.Values.callsPerPod (ternary .ordinal 0 (not (empty $own)))) -}}
{{- end -}}

{{/* Every secret that was given, as a list of {file, value} or {file, secretKey}: the file's name, and where its content is. */}}
{{- define "sip-bridge.secrets" -}}
{{- $secrets := list -}}
{{- with .Values.redis -}}
{{- if or .url .secretKey -}}
{{- $secrets = append $secrets (dict "file" "redis-url" "value" .url "secretKey" .secretKey) -}}
{{- end -}}
{{- end -}}
{{- with .Values.clusterSecret -}}
{{- if or .value .secretKey -}}
{{- $secrets = append $secrets (dict "file" "cluster-secret" "value" .value "secretKey" .secretKey) -}}
{{- end -}}
{{- end -}}
{{- range .Values.apiKeys -}}
{{- $secrets = append $secrets (dict "file" (printf "api-key-%s" .name) "value" .value "secretKey" .secretKey) -}}
{{- end -}}
{{- range $at, $each := .Values.webhookSecrets -}}
{{- $secrets = append $secrets (dict "file" (printf "webhook-secret-%d" $at) "value" $each.value "secretKey" $each.secretKey) -}}
{{- end -}}
{{- range $name, $each := .Values.secretFiles -}}
{{- $secrets = append $secrets (dict "file" $name "value" $each.value "secretKey" $each.secretKey) -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{/* The service's file for one pod. Takes {root, ordinal}. */}}
{{- define "sip-bridge.config" -}}
{{- $ := .root -}}
{{- $secrets := "/etc/sip-bridge/secrets" -}}
{{- $ordinal := .ordinal -}}
{{- $mediaFirst := include "sip-bridge.mediaFirst" . | int -}}
{{- $listen := list -}}
{{- range $.Values.transports -}}
{{- $port := include "sip-bridge.sipPort" (dict "root" $ "ordinal" $ordinal "transport" .) -}}
{{- $listen = append $listen (printf "%s:0.0.0.0:%s" . $port) -}}
{{- end -}}
{{- $sip := dict "listen" $listen -}}
{{- if include "sip-bridge.hasTls" $ -}}
{{- $tls := dict "certificate" (dict "file" "/etc/sip-bridge/tls/tls.crt") "key" (dict "file" "/etc/sip-bridge/tls/tls.key") -}}
{{- if $.Values.tls.caKey -}}
{{- $_ := set $tls "ca" (dict "file" (printf "/etc/sip-bridge/tls/%s" $.Values.tls.caKey)) -}}
{{- end -}}
{{- $_ := set $sip "tls" $tls -}}
{{- end -}}
{{- $media := dict "ports" (printf "%d-%d" $mediaFirst (sub (add $mediaFirst (mul 2 $.Values.callsPerPod)) 1)) -}}
{{- if $.Values.network.podAddresses -}}
{{- $address := index $.Values.network.podAddresses .ordinal -}}
{{- $_ := set $sip "advertise" $address -}}
{{- $_ := set $media "advertise" $address -}}
{{- end -}}
{{- if and (eq $.Values.network.mode "shared-sip") $.Values.network.sipAddress -}}
{{- $_ := set $sip "advertise" $.Values.network.sipAddress -}}
{{- end -}}
{{- $keys := list -}}
{{- range $.Values.apiKeys -}}
{{- $file := dict "file" (printf "%s/api-key-%s" $secrets .name) -}}
{{- $keys = append $keys (dict "name" .name "scopes" .scopes "key" $file) -}}
{{- end -}}
{{- $api := dict "listen" (printf "%s:%v" (ternary "0.0.0.0" "127.0.0.1" (not (empty $keys))) $.Values.ports.api) "keys" $keys -}}
{{- $store := dict "url" (dict "file" (printf "%s/redis-url" $secrets)) -}}
{{- if $.Values.trialRedis.enabled -}}
{{- $store = dict "url" (printf "redis://%s:6379/0" (include "sip-bridge.trialRedis.name" $)) -}}
{{- end -}}
{{- $owned := dict "data_dir" "/data" "sip" $sip "media" $media "store" $store "api" $api -}}
{{- $_ := set $owned "health" (dict "listen" (printf "0.0.0.0:%v" $.Values.ports.health)) -}}
{{/* With one pod too: a second one restarts none then, and the secret stays the same. Where to listen is in the environment. */}}
{{- $cluster := dict "secret" (dict "file" (printf "%s/cluster-secret" $secrets)) -}}
{{- $_ := set $cluster "drain_limit_s" (min 90 (sub (int $.Values.terminationGracePeriodSeconds) 30)) -}}
{{- $_ := set $owned "cluster" $cluster -}}
{{- if $.Values.webhookSecrets -}}
{{- $files := list -}}
{{- range $at, $_ := $.Values.webhookSecrets -}}
{{- $files = append $files (dict "file" (printf "%s/webhook-secret-%d" $secrets $at)) -}}
{{- end -}}
{{- $_ := set $owned "webhooks" (dict "secrets" $files) -}}
{{- end -}}
{{- mergeOverwrite (deepCopy $.Values.config) $owned | toYaml -}}
{{- end -}}

{{/* What the schema cannot say, because it joins two values. */}}
{{- define "sip-bridge.validate" -}}
{{- $redis := or .Values.redis.url .Values.redis.secretKey -}}
{{- if and (not $redis) (not .Values.trialRedis.enabled) -}}
{{- fail "\n\nsip-bridge keeps its calls in a Redis or Valkey, and none was given. Give one of:\n  redis.url=redis://[:password@]host:6379/0\n  existingSecret=NAME and redis.secretKey=KEY, where the URL stands in a Secret of yours\n  trialRedis.enabled=true, for trying out: it forgets every call when its pod goes\n" -}}
{{- end -}}
{{- if and $redis .Values.trialRedis.enabled -}}
{{- fail "\n\ntrialRedis.enabled and redis.url or redis.secretKey were given: which of them shall hold the calls?\n" -}}
{{- end -}}
{{- range include "sip-bridge.secrets" . | fromYamlArray -}}
{{- if and .value .secretKey -}}
{{- fail (printf "\n\nThe secret %s has a value and a secretKey: give one of them.\n" .file) -}}
{{- end -}}
{{- if and .secretKey (not $.Values.existingSecret) -}}
{{- fail (printf "\n\nThe secret %s has the secretKey %s, and there is no existingSecret to have that key.\n" .file .secretKey) -}}
{{- end -}}
{{- end -}}
{{- $addresses := len .Values.network.podAddresses -}}
{{- $most := include "sip-bridge.podsMost" . | int -}}
{{- if and $addresses (lt $addresses $most) -}}
{{- fail (printf "\n\nnetwork.podAddresses has %d addresses for %d pods: each needs its own.\nGive more of them, or a lower %s.\n" $addresses $most (ternary "replicas" "autoscaling.maxReplicas" (eq .Values.autoscaling.by "none"))) -}}
{{- end -}}
{{- if and $addresses (eq .Values.network.mode "hostNetwork") (gt $most 1) -}}
{{- fail "\n\nWith hostNetwork each of several pods goes to whatever node is free, and network.podAddresses cannot follow it.\nGive one pod one address, and pin it to its node; or none, where nodes know the addresses that phones send to.\n" -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if and (ne .by "none") (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "\n\nautoscaling.minReplicas is %v, and maxReplicas %v.\n" .minReplicas .maxReplicas) -}}
{{- end -}}
{{- if and (eq .by "hpa") (not .callsMetric) (not .cpuPercent) -}}
{{- fail "\n\nautoscaling.by=hpa has nothing to go by: give autoscaling.callsMetric or autoscaling.cpuPercent.\n" -}}
{{- end -}}
{{- if and (eq .by "keda") (not .prometheusUrl) -}}
{{- fail "\n\nautoscaling.by=keda asks Prometheus how full the pods are: give autoscaling.prometheusUrl.\n" -}}
{{- end -}}
{{- end -}}
{{- if and (include "sip-bridge.hasServices" .) (eq .Values.network.service.type "LoadBalancer") (not $addresses) -}}
{{- fail (printf "\n\nWith network.mode=%s and LoadBalancers the pods cannot find out what phones shall send to.\nReserve an address for each pod and give them: network.podAddresses={203.0.113.10}\n" .Values.network.mode) -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (eq .Values.network.mode "hostNetwork") -}}
{{- fail "\n\nA NetworkPolicy does nothing for pods with hostNetwork: set networkPolicy.enabled=false, and filter at the nodes.\n" -}}
{{- end -}}
{{- include "sip-bridge.validateTls" . -}}
{{- $last := sub (add (include "sip-bridge.mediaFirst" (dict "root" . "ordinal" (sub $most 1)) | int) (mul 2 .Values.callsPerPod)) 1 -}}
{{- if gt (int $last) 65535 -}}
{{- fail (printf "\n\nMedia ports would end at %d: lower ports.mediaFirst or callsPerPod.\n" $last) -}}
{{- end -}}
{{- end -}}

{{/* The same of TLS alone. */}}
{{- define "sip-bridge.validateTls" -}}
{{- $made := .Values.tls.certManager -}}
{{- $given := or .Values.tls.secretName $made.enabled -}}
{{- if and (include "sip-bridge.hasTls" .) (not $given) -}}
{{- fail "\n\nSIP over TLS or wss needs a certificate, and none was given. Give one of:\n  tls.secretName=NAME, a Secret of yours with tls.crt and tls.key\n  tls.certManager.enabled=true, with who signs and for which names\n" -}}
{{- end -}}
{{- if and $given (not (include "sip-bridge.hasTls" .)) -}}
{{- fail "\n\nA certificate was given, and nobody speaks TLS: add tls to transports, or wss.\n" -}}
{{- end -}}
{{- if and .Values.tls.secretName $made.enabled -}}
{{- fail "\n\ntls.secretName and tls.certManager.enabled were given: whose certificate shall it be?\n" -}}
{{- end -}}
{{- if and $made.enabled (not $made.issuerRef.name) -}}
{{- fail "\n\ntls.certManager needs to know who signs: tls.certManager.issuerRef.name, and its kind where it is a ClusterIssuer.\n" -}}
{{- end -}}
{{- if and $made.enabled (not $made.dnsNames) (not $made.ipAddresses) -}}
{{- fail "\n\ntls.certManager needs the names that phones ask for: tls.certManager.dnsNames={sip.example.com}\n" -}}
{{- end -}}
{{- $own := and (include "sip-bridge.hasNodePorts" .) (eq .Values.network.mode "service-per-pod") -}}
{{- $pods := ternary (include "sip-bridge.podsMost" . | int) 1 (not (empty $own)) -}}
{{- $names := list -}}
{{- range .Values.transports -}}
{{- $names = append $names (include "sip-bridge.portName" .) -}}
{{- end -}}
{{- $names = uniq $names -}}
{{- range $at, $one := $names -}}
{{- range $other := slice $names (int (add1 $at)) -}}
{{- $first := index $.Values.ports $one | int -}}
{{- $second := index $.Values.ports $other | int -}}
{{- if lt (int (max (sub $first $second) (sub $second $first))) $pods -}}
{{- fail (printf "\n\nports.%s is %d and ports.%s %d: they have to be at least %d apart, for so many pods have ports of their own.\n" $one $first $other $second $pods) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
