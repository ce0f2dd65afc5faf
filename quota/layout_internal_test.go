package quota

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// TestLayout: what a charge meets by chance lies in the lines of memory that
// were meant. See also saccount's entry.
func TestLayout(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("lines are reckoned with pointers of 8 bytes")
	}
	const line = 64
	assert.EqualValues(t, line, unsafe.Sizeof(memo{}))
	assert.EqualValues(t, 3*line, 2*unsafe.Sizeof(Row{}), "a limit's counter and its bucket")
	assert.LessOrEqual(t, unsafe.Offsetof(Row{}.rare)+8, uintptr(line), "what every charge looks at stands first")
}
