package main

// Importing C links the constructors of seal.c and heap.c in.

// #cgo CFLAGS: -Wall
import "C"
