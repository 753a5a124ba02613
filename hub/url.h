#pragma once

#include <string>
#include <string_view>

namespace echo {

// "a b/c" -> "a%20b%2Fc", or "a%20b/c" with `keep_slashes`.
std::string percent_encoded(std::string_view text, bool keep_slashes);
std::string percent_decoded(std::string_view text);

// The address that `location`, absolute or relative, means in an answer of `base`. Throws Error (unavailable) when it is none.
std::string absolute_url(const std::string& base, const std::string& location);

// Scheme, host and port, for comparisons: "https://huggingface.co:443". Throws Error (unavailable) when `url` has none.
std::string origin_of(const std::string& url);

// Scheme, host and path, for messages: without a query (which may hold a signature), a user name or a password.
std::string shown_url(const std::string& url);

}  // namespace echo
