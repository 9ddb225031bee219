{{- define "labels" -}}
app.kubernetes.io/name: imserver
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The list of servers: the names of the pods, in order. */}}
{{- define "servers" -}}
{{- $names := list }}
{{- range $index := until (int .Values.replicas) }}
{{- $names = append $names (printf "%s-%d" $.Release.Name $index) }}
{{- end }}
{{- join "," $names }}
{{- end }}
