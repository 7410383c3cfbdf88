package main

// The constructor in seal.c is linked in by this.

// #cgo CFLAGS: -Wall
import "C"
