module turbocat.io/examples

go 1.26.0
