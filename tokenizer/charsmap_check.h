#pragma once

#include <string>
#include <string_view>

namespace echo {

// Checks the compiled normalisation rules of a SentencePiece model (`precompiled_charsmap`). The library reads them without
// checks.
//   4 bytes n | n bytes: a double-array trie of 32-bit units | replacement texts, each ended by a zero byte
// The value of a rule is the offset of its replacement. Numbers are little-endian. Empty means no rules. This checks that
//   the sizes agree; no step from a reachable node leaves the array; the trie has no cycle;
//   at most 32 rules are prefixes of one text (the size of the library's result array);
//   every value points to a replacement of at most 1 KiB.
// Throws Error (bad_data); the message begins with `where`.
// Source of the layout: Yata, "Darts-clone", github.com/s-yata/darts-clone (unit: label, leaf flag, offset).
void check_charsmap(std::string_view charsmap, const std::string& where);

}  // namespace echo
