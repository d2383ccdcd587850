module github.com/bellwether-lb/bellwether

go 1.26.0
