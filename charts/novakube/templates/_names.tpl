{{- /* All processes look for their peers in novakube-system. */ -}}
{{- define "novakube.namespace" -}}
{{- if ne .Release.Namespace "novakube-system" -}}
{{- fail (printf "install novakube into the namespace novakube-system, not %s: its processes find each other there" .Release.Namespace) -}}
{{- end -}}
novakube-system
{{- end -}}

{{- define "novakube.labels" -}}
app.kubernetes.io/name: novakube
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* Image of a component: (list . "operator"). */ -}}
{{- define "novakube.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.image.repository }}/{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end -}}

{{- define "novakube.hasDatabase" -}}
{{- if .Values.operator.database.secretName -}}true{{- end -}}
{{- end -}}

{{- define "novakube.operatorReplicas" -}}
{{- $many := include "novakube.hasDatabase" . -}}
{{- $wanted := .Values.operator.replicas -}}
{{- if and $wanted (gt (int $wanted) 1) (not $many) -}}
{{- fail "operator.replicas above 1 needs operator.database.secretName: SQLite has one writer" -}}
{{- end -}}
{{- $wanted | default (ternary 2 1 (eq $many "true")) -}}
{{- end -}}

{{- /* What every container but the agent's gets. */ -}}
{{- define "novakube.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "novakube.pod" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* Kinds of tenants in namespaces; Quota apart, which tenants only read. */ -}}
{{- define "novakube.tenantKinds" -}}
floatingips, images, instanceactions, instances, networks, ports, routers, securitygroups, servergroups, subnets
{{- end -}}
{{- define "novakube.clusterKinds" -}}
aggregates, flavors, hypervisors, keypairs, quotaclasses
{{- end -}}
{{- define "novakube.internalKinds" -}}
addressslices, guests, historyrecords, hypervisorreports, ipaddresses
{{- end -}}
{{- define "novakube.status" -}}
{{- $out := list -}}
{{- range splitList ", " . }}{{ $out = append $out (printf "%s/status" .) }}{{ end -}}
{{- join ", " $out -}}
{{- end -}}

{{- define "novakube.apiURL" -}}
{{ .Values.api.url | default (printf "https://novakube-api.%s.svc:%d" (include "novakube.namespace" .) (int .Values.api.port)) }}
{{- end -}}

{{- /* What is there while helm test runs, and no longer. */ -}}
{{- define "novakube.testHook" -}}
labels: {{- include "novakube.labels" . | nindent 2 }}
annotations:
  helm.sh/hook: test
  helm.sh/hook-weight: "-1"
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
