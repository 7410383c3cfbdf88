package agent

import (
	"errors"
	"testing"
)

func TestSeedIsBounded(t *testing.T) {
	var refused *invalidError
	if err := addEntropy(make([]byte, maxSeed+1)); !errors.As(err, &refused) {
		t.Errorf("too large a seed: %v, want a refusal", err)
	}
	if err := addEntropy(nil); err != nil {
		t.Errorf("without a seed: %v", err)
	}
}
