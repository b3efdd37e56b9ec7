package postgres

// OpenWithin is Open with another bound for a silent link.
var OpenWithin = open
