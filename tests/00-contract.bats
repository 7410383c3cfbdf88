#!/usr/bin/env bats
# The table in README.md is true: each statement of the contract has a test, and the tests are those that it names.

load helpers

@test "each statement of the contract is shown by the tests that the table names, and by one at least" {
	"$TESTS/contract"
}
