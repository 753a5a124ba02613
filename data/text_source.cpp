#include "data/text_source.h"

#include "base/utf8.h"

namespace echo {

bool TextSource::next(Document& document) {
  if (record_ > 0) return false;
  ++record_;
  ++counts_.records;
  const std::unique_ptr<ByteReader> reader = open_content(file_);
  std::string text;
  char buffer[1 << 16];
  while (const size_t count = reader->read(buffer, sizeof buffer)) {
    if (text.size() + count > kLongestRecord) {
      ++counts_.too_long;
      return false;
    }
    text.append(buffer, count);
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  if (!is_valid_utf8(text)) {
    ++counts_.invalid_utf8;
  } else if (!filter_.accepts("")) {
    ++counts_.other_sets;
  } else if (text.empty()) {
    ++counts_.empty_text;
  } else {
    ++counts_.documents;
    document = {std::move(text), ""};
    return true;
  }
  return false;
}

}  // namespace echo
