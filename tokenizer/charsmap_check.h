#pragma once

#include <string>
#include <string_view>

namespace echo {

// Checks the compiled normalisation rules of a SentencePiece model (`precompiled_charsmap`), which the library walks unchecked:
//   4 bytes n | n bytes: a double-array trie of 32-bit units | replacement texts, each ended by a zero byte
// A rule's value is the offset of its replacement. Numbers are little-endian. Empty means no rules. This checks that
//   the sizes agree; no step from a node that the search can reach leaves the array; the trie has no cycle;
//   a text has at most 32 rules as its prefixes (the size of the library's result array);
//   every value points to a replacement of at most 1 KiB.
// Throws Error (bad_data), text beginning with `where`.
// Source of the layout: Yata, "Darts-clone", github.com/s-yata/darts-clone (unit: label, leaf flag, offset).
void check_charsmap(std::string_view charsmap, const std::string& where);

}  // namespace echo
