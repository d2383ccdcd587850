{{- define "bellwether.labels" -}}
app.kubernetes.io/name: bellwether
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "bellwether.common" -}}
app.kubernetes.io/part-of: bellwether
{{- end }}

{{- define "bellwether.image" -}}
{{ .image.repository }}:{{ .image.tag | default .default }}
{{- end }}
