// Package product puts Bellwether into a lab the way users do: from its images and manifests in the full mode, and in the
// light mode as plain processes that have the rights of their ServiceAccounts.
package product
