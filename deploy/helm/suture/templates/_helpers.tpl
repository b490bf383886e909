{{- define "suture.labels" -}}
app.kubernetes.io/name: suture
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "suture.selector" -}}
app.kubernetes.io/name: suture
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
