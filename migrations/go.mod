module turbocat.io/migrations

go 1.26.0
