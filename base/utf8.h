#pragma once

#include <cstddef>
#include <string_view>

namespace echo {

// Bytes of the character that begins at `position` (1 to 4), or 0 when no valid UTF-8 sequence begins there: a stray or missing
// continuation byte, an overlong form, a surrogate or a value above U+10FFFF. Source: RFC 3629, section 4.
size_t utf8_character_length(std::string_view text, size_t position);

// Bytes of valid UTF-8 at the beginning of `text`: all of them, or the offset of the first byte that is not in a character.
size_t valid_utf8_length(std::string_view text);

// True when all of `text` is valid UTF-8.
inline bool is_valid_utf8(std::string_view text) { return valid_utf8_length(text) == text.size(); }

// How many bytes at the end of `text` could still become one character when more bytes follow: 0 to 3.
size_t incomplete_utf8_tail(std::string_view text);

}  // namespace echo
