#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/corpus_source.h"
#include "data/data_cursor.h"
#include "data/data_settings.h"
#include "tokenizer/tokenizer.h"

namespace echo {

// Whether held-out selection by hash takes this text: a share `fraction` of all texts, the same ones always.
bool is_held_out(const std::string& text, double fraction);

// The tokens of a document as they go into the stream: [begin] text end. Empty when the text has no tokens.
std::vector<int32_t> document_tokens(const Tokenizer& tokenizer, const std::string& text, bool bos_per_document);

// Throws Error (config) when the tokenizer has no end token, or no begin token where the settings ask for one.
void check_tokenizer(const DataSettings& settings, const Tokenizer& tokenizer);

// A document as tokens, and where it was found.
struct TokenizedDocument {
  std::vector<int32_t> tokens;
  int64_t epoch = 0;
  CorpusPosition position;  // of the document
  SkipCounts counts;        // of the records before it, over all epochs
};

// The training documents without end, epoch after epoch, as tokens. Each epoch permutes the files and chooses the file of each
// document in its own way; both depend on (seed, epoch, list of files) alone. Without shuffling one file is read after the
// other.
class TokenStream {
 public:
  // name: what errors call the data. files: sorted (find_data_files). held_out_fraction: documents left out by is_held_out.
  // start: the document to begin with; its token, block and row mean nothing here.
  // Throws Error: as check_tokenizer does, bad_data when `start` belongs to other files, and what reading up to `start` throws.
  TokenStream(const DataSettings& settings, std::string name, std::vector<DataFile> files, double held_out_fraction,
              Tokenizer tokenizer, const DataCursor& start);

  // Reads one document. Returns false when it is not to be trained on, or when an epoch ended: the caller tries again, so that
  // it can stop in between. Throws Error (bad_data) when a whole epoch has no document or too many records are bad; and what
  // reading throws.
  bool next(TokenizedDocument& document);

  const std::vector<std::string>& skipped() const { return skipped_->names; }  // files that could not be had
  uint64_t fingerprint() const { return fingerprint_; }                        // of the files
  const std::string& name() const { return name_; }
  int32_t end_token() const { return tokenizer_.eos_id(); }

 private:
  void begin_epoch(int64_t epoch);

  DataSettings settings_;
  std::string name_;
  std::vector<DataFile> files_;
  double held_out_fraction_;
  Tokenizer tokenizer_;
  SetWeights weights_;
  uint64_t fingerprint_;

  int64_t epoch_ = 0;
  std::unique_ptr<SkippedFiles> skipped_ = std::make_unique<SkippedFiles>();  // at a fixed address, for source_
  std::unique_ptr<CorpusSource> source_;
  bool epoch_read_from_start_ = true;
  int64_t documents_in_epoch_ = 0;
};

}  // namespace echo
