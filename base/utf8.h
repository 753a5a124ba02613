#pragma once

#include <cstddef>
#include <string_view>

namespace echo {

// Length in bytes (1 to 4) of the character that begins at `position`, or 0 when no valid UTF-8 sequence begins there: a stray
// or missing continuation byte, an overlong form, a surrogate or a value above U+10FFFF. Source: RFC 3629, section 4.
size_t utf8_character_length(std::string_view text, size_t position);

// Number of bytes of valid UTF-8 at the beginning of `text`: text.size(), or the offset of the first invalid byte.
size_t valid_utf8_length(std::string_view text);

// True when all of `text` is valid UTF-8.
inline bool is_valid_utf8(std::string_view text) { return valid_utf8_length(text) == text.size(); }

// Number of bytes (0 to 3) at the end of `text` that could become one character when more bytes follow.
size_t incomplete_utf8_tail(std::string_view text);

}  // namespace echo
