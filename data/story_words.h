#pragma once

#include <span>
#include <string_view>

namespace echo::story {

// The small world of the stories. Everything in a story refers to entries of these tables. So a reader who has met "Mia the
// baker" and "her red kite" can predict what comes later.

enum class Pronoun { she, he };

struct Name {
  std::string_view name;
  Pronoun pronoun;
};

// A person with a job: name, place, and what the person does there (past and infinitive).
struct Trade {
  std::string_view trade, place, past, infinitive;
};

struct Animal {
  std::string_view animal, sound, walk;  // "dog", "barked", "ran"
};

struct Thing {
  std::string_view thing, use;  // "kite", "fly it on the hill"
};

struct Place {
  std::string_view place, detail;  // "the old mill", "The big wheel turned slowly"
};

struct Feeling {
  std::string_view feeling, sign;  // "sad", "looked at the ground"
};

std::span<const Name> names();
std::span<const Trade> trades();
std::span<const Animal> animals();
std::span<const Thing> things();
std::span<const Place> places();
std::span<const Feeling> glad_feelings();
std::span<const Feeling> sorry_feelings();
std::span<const std::string_view> colours();
std::span<const std::string_view> animal_colours();
std::span<const std::string_view> sizes();
std::span<const std::string_view> weathers();  // "It was a windy morning"
std::span<const std::string_view> foods();
std::span<const std::string_view> hiding_places();
std::span<const std::string_view> lessons();

}  // namespace echo::story
