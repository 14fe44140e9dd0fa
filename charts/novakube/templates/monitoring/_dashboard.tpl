{{- /* Grafana's JSON of a dashboard in short: (list name dashboard). Three panels stand in a line. */ -}}
{{- define "novakube.dashboard" -}}
{{- $source := dict "type" "prometheus" "uid" "${datasource}" -}}
{{- $panels := list -}}
{{- $y := 0 -}}
{{- range (index . 1).rows -}}
  {{- $place := dict "x" 0 "y" $y "w" 24 "h" 1 -}}
  {{- $panels = append $panels (dict "id" (add1 (len $panels)) "type" "row" "title" .title "gridPos" $place "panels" list) -}}
  {{- $y = add1 $y -}}
  {{- range $number, $panel := .panels -}}
    {{- $place := dict "x" (mul 8 (mod $number 3)) "y" (add $y (mul 8 (div $number 3))) "w" 8 "h" 8 -}}
    {{- $targets := list -}}
    {{- range $query, $it := .queries -}}
      {{- $target := dict "refId" (printf "%c" (add 65 $query)) "expr" $it.expr "datasource" $source -}}
      {{- $targets = append $targets (set $target "legendFormat" ($it.legend | default "__auto")) -}}
    {{- end -}}
    {{- $shown := dict "id" (add1 (len $panels)) "type" (.kind | default "timeseries") "title" .title "gridPos" $place -}}
    {{- $defaults := dict "defaults" (dict "unit" (.unit | default "short") "min" 0) "overrides" list -}}
    {{- $panels = append $panels (merge $shown (dict "datasource" $source "targets" $targets "fieldConfig" $defaults)) -}}
  {{- end -}}
  {{- $y = add $y (mul 8 (div (add (len .panels) 2) 3)) -}}
{{- end -}}
{{- $choice := dict "name" "datasource" "type" "datasource" "query" "prometheus" "label" "Data source" -}}
{{- dict
  "uid" (printf "novakube-%s" (index . 0)) "title" (index . 1).title "tags" (list "novakube")
  "schemaVersion" 39 "editable" true "refresh" "1m" "time" (dict "from" "now-6h" "to" "now")
  "templating" (dict "list" (list $choice)) "panels" $panels | toJson -}}
{{- end -}}
