package seal

import "time"

// Rotating is a secret that is changed from time to time, and the one before it, which may be good for a while still.
type Rotating struct {
	SecretVersion  int // from 1; the one before has the number before
	Secret         Sealed
	PreviousSecret *Sealed // nil for none
	PreviousUntil  time.Time
}

// Change sets a new secret for an owner and a name. The one before stays good for the overlap.
func (r *Rotating) Change(k *Keyring, owner, name, secret string, overlap time.Duration, now time.Time) {
	r.PreviousSecret, r.PreviousUntil = nil, time.Time{}
	if overlap > 0 {
		before := r.Secret
		r.PreviousSecret, r.PreviousUntil = &before, now.Add(overlap)
	}
	r.SecretVersion++
	r.Secret = k.Seal(Place{owner, name, r.SecretVersion}, secret)
}

// Open gives the secrets that are good at a moment, the current one first.
func (r Rotating) Open(k *Keyring, owner, name string, now time.Time) ([]string, error) {
	current, err := k.Open(Place{owner, name, r.SecretVersion}, r.Secret)
	if err != nil {
		return nil, err
	}
	if r.PreviousSecret == nil || !now.Before(r.PreviousUntil) {
		return []string{current}, nil
	}
	previous, err := k.Open(Place{owner, name, r.SecretVersion - 1}, *r.PreviousSecret)
	return []string{current, previous}, err
}

// Reseal seals the secrets under the current key, and tells whether that changed anything.
func (r *Rotating) Reseal(k *Keyring, owner, name string) (changed bool, err error) {
	for _, s := range []struct {
		sealed  *Sealed
		version int
	}{{&r.Secret, r.SecretVersion}, {r.PreviousSecret, r.SecretVersion - 1}} {
		if s.sealed == nil || s.sealed.KeyID == k.Current() {
			continue
		}
		at := Place{owner, name, s.version}
		text, err := k.Open(at, *s.sealed)
		if err != nil {
			return false, err
		}
		*s.sealed, changed = k.Seal(at, text), true
	}
	return changed, nil
}
