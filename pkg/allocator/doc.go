// Package allocator decides which Service holds which address, and why.
//
// Assign is a pure function of the whole world: the pools, and every Service with what it holds. It keeps no state, so
// there is none to restore after a restart and none that can drift. Its laws are property tests:
//
//  1. no address is held twice unless sharing allows it
//  2. a valid hold is kept
//  3. Assign after applying Assign changes nothing
//  4. the order of the input changes nothing
//  5. every address given lies in a pool that allows the Service
//  6. deleting or adding another Service never moves mine
//  7. a Service is pending only if no eligible address is free
//  8. fail-static: a bad object never releases, moves or withdraws an address
package allocator
