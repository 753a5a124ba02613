#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/random.h"
#include "data/document_source.h"
#include "data/zstd_writer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/training.h"

namespace echo {

inline std::string json_line(const std::string& text, const std::string& set_name = "RedPajamaC4") {
  return nlohmann::json{{"text", text}, {"meta", {{"redpajama_set_name", set_name}}}}.dump() + "\n";
}

inline std::string json_lines(const std::vector<std::string>& texts) {
  std::string lines;
  for (const std::string& text : texts) lines += json_line(text);
  return lines;
}

inline void write_corpus_file(const fs::path& path, const std::string& lines) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << (path.extension() == ".zst" ? compress_zstd(lines) : lines);
}

inline std::vector<std::string> all_texts(DocumentSource& source) {
  std::vector<std::string> texts;
  Document document;
  while (source.next(document)) texts.push_back(document.text);
  return texts;
}

// `count` texts of one to `longest` words; each is different.
inline std::vector<std::string> made_up_texts(int count, uint64_t longest, uint64_t seed) {
  const std::vector<std::string> words = {"river", "moon",  "cold",  "sings", "under",
                                          "glass", "seven", "walks", "amber", "quiet"};
  std::vector<std::string> texts;
  RandomSequence random(seed);
  for (int i = 0; i < count; ++i) {
    std::string text = "text " + std::to_string(i);
    for (uint64_t n = random.below(longest); n > 0; --n) text += " " + words[random.below(words.size())];
    texts.push_back(text);
  }
  return texts;
}

// A small tokenizer of our own, so that these tests need nothing from outside.
inline Tokenizer small_tokenizer(const fs::path& folder) {
  train_tokenizer(made_up_texts(200, 30, 99), 290, folder / "tokenizer.model");
  return Tokenizer(folder / "tokenizer.model");
}

}  // namespace echo
