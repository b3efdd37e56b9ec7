// Package layout holds the tests of what the compiler does not check: which package may import
// which, and that every environment variable the code reads is documented.
//
// Dependencies point one way: tools -> service root -> adapters -> domain -> contracts, and
// pkg -> contracts. The tests parse every Go file below go.work, whatever its build tags.
package layout
