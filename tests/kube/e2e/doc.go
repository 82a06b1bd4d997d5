// Package e2e is the upstream network suite of Kubernetes and nothing else of its end-to-end tests.
package e2e
