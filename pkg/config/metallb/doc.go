// Package metallb reads the configuration of MetalLB, its metallb.io objects and its ConfigMap of old, as objects of Bellwether. Every field is
// taken over, or named with why it is not. It is pure.
package metallb
