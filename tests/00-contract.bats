#!/usr/bin/env bats
# The table in README.md is up to date: each statement of the contract has at least one test, and the table names it.
# The lab runs tests again only if they have lost their guest.

load helpers

@test "each statement of the contract is shown by the tests that the table names, and by one at least" {
	"$TESTS/contract"
}

# lost STATUS: runs tests/lab/lost, which reads a test run's output and prints the filter for the tests to run again.
lost() {
	run -"$1" "$TESTS/lab/lost" words='no word|ended'
}

@test "the lab runs those tests again that lost their guest, and only where no test failed otherwise" {
	lost 0 <<-'EOF'
		ok 1 fine in 5ms
		not ok 2 a (b) | c in 12ms
		# create: the VM ended
		not ok 3 d in 7ms
		# no word
	EOF
	[[ $output == '^(a \(b\) \| c|d)$' || $output == '^(d|a \(b\) \| c)$' ]]
	lost 1 <<-'EOF'
		not ok 1 a in 12ms
		# the VM ended
		not ok 2 b in 7ms
		# wrong
	EOF
	lost 1 <<-'EOF'
		ok 1 a in 12ms
		# the VM ended
	EOF
}

@test "the lab does so with the tests of Go, whose subtests share a guest" {
	local output_of_go='=== RUN   TestSuite
=== RUN   TestSuite/Boot
=== RUN   TestSuite/Reset
=== RUN   TestSuite/Reset/soft
    life.go:1: no word
--- FAIL: TestSuite (2.00s)
    --- PASS: TestSuite/Boot (1.00s)
    --- FAIL: TestSuite/Reset (1.00s)
        --- FAIL: TestSuite/Reset/soft (1.00s)'
	lost 0 <<<"$output_of_go"
	[ "$output" = '^TestSuite$/^Reset$' ]
	lost 1 <<<"${output_of_go/no word/wrong}"
}

@test "the lab runs a suite that others wrote again as a whole" {
	lost 0 <<<'runc-bats: the VM ended'
	[ "$output" = . ]
	lost 1 <<<'runc-bats: wrong'
}
