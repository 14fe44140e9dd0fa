{{- /*
One policy and its binding. A validation is {old, new, resource, right, field}: when a write sets
`new` to something else than `old`, the caller needs the verb "use" on the virtual subresource
`right` of `resource` in the object's namespace.
*/ -}}
{{- define "novakube.fieldPolicy" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ .name }}
  labels: {{- include "novakube.labels" .root | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [novakube.dev]
        apiVersions: [v1alpha1]
        resources: {{ toJson .resources }}
        operations: [CREATE, UPDATE]
  variables:
    - name: old
      expression: "oldObject == null ? dyn({}) : dyn(oldObject.spec)"
    - name: new
      expression: "dyn(object.spec)"
    - name: scope
      expression: "request.namespace == '' ? 'the cluster' : 'namespace ' + request.namespace"
  validations:
    {{- range .fields }}
    - expression: >-
        {{ .unless }} ||
        authorizer.group('novakube.dev').resource({{ .resource }}).subresource({{ .right }}).namespace(request.namespace).check('use').allowed()
      reason: Forbidden
      messageExpression: >-
        '{{ .field }} needs the right to use ' + {{ .resource }} + '/' + {{ .right }} + ' in ' + variables.scope
    {{- end }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels: {{- include "novakube.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end -}}

{{- /* CEL: the field is as it was; the argument is a list of its name and its CEL default. */ -}}
{{- define "novakube.unchanged" -}}
variables.new.?{{ index . 0 }}.orValue({{ index . 1 }}) == variables.old.?{{ index . 0 }}.orValue({{ index . 1 }})
{{- end -}}
