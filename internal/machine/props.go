// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Prop is one key of an object in QEMU's JSON syntax. Value is a string, a bool,
// an int, an int64 or Props.
type Prop struct {
	Key   string
	Value any
}

// Props is an object in QEMU's JSON syntax whose keys keep their order, so that
// command lines can be compared. The same object is -device's argument and
// device_add's.
type Props []Prop

// with appends a key when keep is true.
func (p Props) with(keep bool, key string, value any) Props {
	if !keep {
		return p
	}
	return append(p, Prop{key, value})
}

// Get returns the value of a key, or nil.
func (p Props) Get(key string) any {
	for _, kv := range p {
		if kv.Key == key {
			return kv.Value
		}
	}
	return nil
}

// MarshalJSON writes the object with its keys in order.
func (p Props) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	write := func(v any) error {
		if err := enc.Encode(v); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // Encode ends with a newline
		return nil
	}
	b.WriteByte('{')
	for i, kv := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := write(kv.Key); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := write(kv.Value); err != nil {
			return nil, fmt.Errorf("key %s: %w", kv.Key, err)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// String is the object as an argument of QEMU. Strings of users are in it as
// JSON strings, in which a comma or a quote means nothing to QEMU.
func (p Props) String() string {
	b, err := p.MarshalJSON()
	if err != nil {
		// Only a value of another type than Prop allows gets here: a mistake of
		// this package, which the tests of every device would show.
		panic("machine: " + err.Error())
	}
	return string(b)
}

// keyvals is an option in QEMU's older key=value syntax.
type keyvals struct{ b strings.Builder }

// word adds a bare first word, such as the machine type.
func (k *keyvals) word(s string) *keyvals {
	if k.b.Len() > 0 {
		k.b.WriteByte(',')
	}
	k.b.WriteString(escape(s))
	return k
}

func (k *keyvals) set(key, value string) *keyvals { return k.word(key + "=" + value) }

func (k *keyvals) setInt(key string, value int64) *keyvals {
	return k.set(key, fmt.Sprint(value))
}

func (k *keyvals) setOn(key string, on bool) *keyvals {
	if on {
		return k.set(key, "on")
	}
	return k.set(key, "off")
}

func (k *keyvals) String() string { return k.b.String() }

// escape doubles commas: QEMU's way to have one in a value.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
