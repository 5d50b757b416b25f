module example.com/spares

go 1.26.0
