#pragma once

#include <string>

namespace echo {

// A repository of the hub.
struct HubRepository {
  bool is_dataset = false;  // else a model
  std::string name;         // "ORGANISATION/NAME"

  std::string address() const;      // hf://ORGANISATION/NAME or hf://datasets/ORGANISATION/NAME, for messages
  std::string folder_name() const;  // of its cache: models--ORGANISATION--NAME
};

// What an address names: a file, a folder or a whole repository, at a revision.
struct HubAddress {
  HubRepository repository;
  std::string revision;    // branch, tag, commit or refs/pr/N, decoded; "main" when the address names none
  std::string path;        // in the repository, without a slash at either end; empty: the whole repository
  bool is_folder = false;  // it ends with a slash or names a whole repository

  std::string text() const;  // hf://..., for messages. Without @main
};

// True for every text that begins with hf://
bool is_hub_address(const std::string& text);

// Parses hf://[datasets/|models/]ORGANISATION/NAME[@REVISION][/PATH]. A slash in REVISION is written %2F, except in refs/pr/N
// and refs/convert/X. PATH is taken as it stands. Throws Error (usage) that quotes the address and the grammar.
HubAddress parse_hub_address(const std::string& text);

// True for 40 hexadecimal digits: a revision that never changes.
bool is_commit(const std::string& revision);

// True for a path in a repository that cannot lead out of a folder: relative, and no part is empty, "." or "..".
bool is_safe_path(const std::string& path);

}  // namespace echo
