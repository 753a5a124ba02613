#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/random.h"
#include "data/story_words.h"

namespace echo::story {

// Writes one story: draws its characters and things, then lets events happen to them. All choices depend on (seed, index).
class StoryWriter {
 public:
  StoryWriter(uint64_t seed, uint64_t index);
  std::string write();  // call it once

 private:
  // A character of the story, with the character's things.
  struct Character {
    Name name;
    Trade trade;
    Thing thing;
    std::string_view colour;
  };

  template <class Table>
  auto pick(const Table& table) {
    return table[random_.below(table.size())];
  }
  std::string_view one_of(std::initializer_list<std::string_view> choices) {
    return choices.begin()[random_.below(choices.size())];
  }

  // Adds a sentence: `parts` joined (not empty), with a capital letter, and with a full stop unless it already ends in a mark.
  template <class... Parts>
  void say(Parts... parts);
  void paragraph();  // ends the line

  std::string_view he(const Character& c) const { return c.name.pronoun == Pronoun::she ? "she" : "he"; }
  std::string_view him(const Character& c) const { return c.name.pronoun == Pronoun::she ? "her" : "him"; }
  std::string_view his(const Character& c) const { return c.name.pronoun == Pronoun::she ? "her" : "his"; }

  // The parts of a story. Each appends its sentences to text_ and draws from random_, so the order of calls matters. opening()
  // introduces hero_, friend_ and animal_, whom all others mention without introduction, so it comes first.
  void opening();
  void lose_the_thing();
  void help_the_animal();
  void make_a_promise();
  void count_the_fruit();
  void ask_three_times();
  void walk_home();
  void ending();

  RandomSequence random_;
  std::string text_;
  Character hero_, friend_;
  Animal animal_;
  std::string_view animal_name_, animal_colour_, weather_, food_;
  Place place_, other_place_;
};

}  // namespace echo::story
