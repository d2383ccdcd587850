// Package holds watches who holds which address: one change of a Service after the other, as the API server tells them, and
// none left out. It knows the one law of allocation, and nothing else of the product: no address is held by two Services at any
// instant unless both let it be shared.
package holds
