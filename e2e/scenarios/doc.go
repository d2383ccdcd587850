// Package scenarios holds what Bellwether promises, as tests on a real Kubernetes: the lab's full mode, with our own images
// and manifests. The truth is read from the wire, where the client sits, and from the API server.
package scenarios
