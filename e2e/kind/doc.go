// Package kind makes a Kubernetes of Docker containers with kind, on a network of a given plan, and does to its nodes what the lab does to its
// own: cut their power, give them images, run commands. It needs the docker client, and the daemon on this machine.
package kind
