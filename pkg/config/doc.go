// Package config turns the objects that an operator applies into one parsed, immutable Config, and says what is wrong with
// each of them.
//
// A bad object never spoils another: what can be understood of it is kept, so that nothing that works stops working, and
// the rest of it is inert and named by a Problem.
package config
