#include "data/story_writer.h"

#include <array>
#include <cctype>

namespace echo::story {
namespace {

constexpr std::string_view kNumbers[] = {"no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"};
constexpr std::string_view kAnimalNames[] = {"Pip", "Moss", "Bramble", "Dot", "Pepper", "Button", "Clover", "Smoke"};

}  // namespace

template <class... Parts>
void StoryWriter::say(Parts... parts) {
  if (!text_.empty() && text_.back() != '\n') text_ += ' ';
  const size_t begin = text_.size();
  (text_.append(std::string_view(parts)), ...);
  const size_t first = text_[begin] == '"' ? begin + 1 : begin;
  text_[first] = static_cast<char>(std::toupper(static_cast<unsigned char>(text_[first])));
  const char last = text_.back();
  if (last != '.' && last != '!' && last != '?' && last != '"') text_ += '.';
}

void StoryWriter::paragraph() { text_ += '\n'; }

StoryWriter::StoryWriter(uint64_t seed, uint64_t index) : random_(seed, /*stream=*/index) {
  const auto character = [&] { return Character{pick(names()), pick(trades()), pick(things()), pick(colours())}; };
  hero_ = character();
  do friend_ = character();
  while (friend_.name.name == hero_.name.name || friend_.thing.thing == hero_.thing.thing ||
         friend_.trade.trade == hero_.trade.trade);
  animal_ = pick(animals());
  animal_name_ = pick(std::span(kAnimalNames));
  animal_colour_ = pick(animal_colours());
  weather_ = pick(weathers());
  food_ = pick(foods());
  place_ = pick(places());
  do other_place_ = pick(places());
  while (other_place_.place == place_.place);
  text_.reserve(2400);
}

std::string StoryWriter::write() {
  opening();
  // Two to four different events in any order. The ending mentions again what each of them left behind.
  std::array<void (StoryWriter::*)(), 5> events = {&StoryWriter::lose_the_thing, &StoryWriter::help_the_animal,
                                                   &StoryWriter::make_a_promise, &StoryWriter::count_the_fruit,
                                                   &StoryWriter::ask_three_times};
  for (size_t i = events.size() - 1; i > 0; --i) std::swap(events[i], events[random_.below(i + 1)]);
  const size_t count = 2 + random_.below(3);
  for (size_t i = 0; i < count; ++i) {
    paragraph();
    (this->*events[i])();
  }
  if (random_.below(2)) walk_home();
  paragraph();
  ending();
  return std::move(text_);
}

void StoryWriter::opening() {
  const Character& h = hero_;
  switch (random_.below(4)) {
    case 0:
      say("Once upon a time there was a ", h.trade.trade, " named ", h.name.name);
      break;
    case 1:
      say("In a ", pick(sizes()), " house near ", place_.place, " lived ", h.name.name, " the ", h.trade.trade);
      break;
    case 2:
      say(h.name.name, " was a ", h.trade.trade, " and worked at ", h.trade.place);
      break;
    default:
      say("One day, ", h.name.name, " the ", h.trade.trade, " woke up early");
      break;
  }
  say(weather_);
  say("Every day ", he(h), " ", h.trade.past, " at ", h.trade.place);
  if (random_.below(2))
    say("But most of all ", h.name.name, " loved ", his(h), " ", h.colour, " ", h.thing.thing);
  else
    say(h.name.name, " had a ", h.colour, " ", h.thing.thing, " and liked to ", h.thing.use);
  say(his(h), " best friend was ", friend_.name.name, " the ", friend_.trade.trade, ", who worked at ", friend_.trade.place);
  say(friend_.name.name, " had a ", friend_.colour, " ", friend_.thing.thing);
  if (random_.below(2))
    say("They both knew a ", animal_colour_, " ", animal_.animal, " called ", animal_name_);
  else
    say("A ", animal_colour_, " ", animal_.animal, " called ", animal_name_, " lived near ", place_.place);
}

void StoryWriter::lose_the_thing() {
  const Character& owner = random_.below(2) ? hero_ : friend_;
  const Character& other = &owner == &hero_ ? friend_ : hero_;
  const auto hidden = pick(hiding_places());
  const auto feeling = pick(sorry_feelings());
  say("That day the ", owner.colour, " ", owner.thing.thing, " was gone");
  say(owner.name.name, " was ", feeling.feeling, " and ", feeling.sign);
  say("\"Where is my ", owner.thing.thing, "?\" asked ", owner.name.name, ".");
  say("\"I have not seen it,\" said ", other.name.name, ". \"Let us look for it at ", other_place_.place, ".\"");
  say("So ", owner.name.name, " and ", other.name.name, " went to ", other_place_.place);
  say(other_place_.detail);
  if (random_.below(2)) {
    say(animal_name_, " the ", animal_.animal, " came too and ", animal_.sound);
    say("Then ", animal_name_, " ", animal_.walk, " ahead and found the ", owner.thing.thing, " ", hidden);
  } else {
    say(other.name.name, " looked ", hidden, " and saw something ", owner.colour);
    say("\"Here is your ", owner.thing.thing, "!\" said ", other.name.name, ".");
  }
  say("Now ", owner.name.name, " could ", owner.thing.use, " again");
}

void StoryWriter::help_the_animal() {
  const Character& helper = random_.below(2) ? hero_ : friend_;
  const auto gladness = pick(glad_feelings());
  say("At ", place_.place, " ", helper.name.name, " heard a sound");
  say(place_.detail);
  say("It was ", animal_name_, " the ", animal_.animal, ", and ", animal_name_, " was stuck ", pick(hiding_places()));
  say("The ", animal_colour_, " ", animal_.animal, " ", animal_.sound, " and could not move");
  say("\"Do not be afraid, ", animal_name_, ",\" said ", helper.name.name, ". \"I will help you.\"");
  say(helper.name.name, " used ", his(helper), " ", helper.colour, " ", helper.thing.thing, " and pulled with all ",
      his(helper), " strength");
  say("At last ", animal_name_, " was free and ", animal_.walk, " around ", him(helper));
  say(helper.name.name, " was ", gladness.feeling, " and ", gladness.sign);
}

void StoryWriter::make_a_promise() {
  const Character &giver = hero_, &taker = friend_;
  say(taker.name.name, " came to ", giver.trade.place, " with a question");
  say("\"May I use your ", giver.colour, " ", giver.thing.thing, "?\" asked ", taker.name.name, ".");
  if (random_.below(2)) {
    say("\"Yes,\" said ", giver.name.name, ". \"But please bring it back before the sun goes down.\"");
    say(taker.name.name, " took the ", giver.thing.thing, " and went off to ", giver.thing.use);
    say("When the sky turned dark, ", he(taker), " ran back to ", giver.trade.place, " and gave the ", giver.thing.thing,
        " to ", giver.name.name);
    say("\"Thank you, ", giver.name.name, ",\" said ", taker.name.name, ". \"I kept my promise.\"");
  } else {
    say("\"Only if I may use your ", taker.colour, " ", taker.thing.thing, ",\" said ", giver.name.name, ".");
    say("So ", giver.name.name, " got the ", taker.thing.thing, " and ", taker.name.name, " got the ", giver.thing.thing);
    say(giver.name.name, " wanted to ", taker.thing.use, ", and ", taker.name.name, " wanted to ", giver.thing.use);
    say("In the evening each of them had ", one_of({"the right thing", "the old thing"}), " back: ", giver.name.name, " the ",
        giver.thing.thing, " and ", taker.name.name, " the ", taker.thing.thing);
  }
}

void StoryWriter::count_the_fruit() {
  const auto fruit = one_of({"apples", "pears", "plums", "nuts", "eggs"});
  const size_t first = 1 + random_.below(5), second = 1 + random_.below(5);
  say(hero_.name.name, " found ", kNumbers[first], " ", first == 1 ? fruit.substr(0, fruit.size() - 1) : fruit, " at ",
      other_place_.place);
  say(friend_.name.name, " found ", kNumbers[second], " more");
  say("\"How many ", fruit, " do we have?\" asked ", friend_.name.name, ".");
  say("\"We have ", kNumbers[first + second], ",\" said ", hero_.name.name, ", who could count well.");
  const size_t eaten = 1 + random_.below(first + second - 1);
  say(animal_name_, " the ", animal_.animal, " ate ", kNumbers[eaten], " of the ", kNumbers[first + second]);
  const size_t left = first + second - eaten;
  say("\"Oh, ", animal_name_, "!\" they said. \"Now only ", kNumbers[left], left == 1 ? " is" : " are", " left.\"");
}

void StoryWriter::ask_three_times() {
  const Character &asker = hero_, &asked = friend_;
  say(asker.name.name, " wanted to ", asked.trade.infinitive, " like ", asked.name.name);
  say("\"Can you show me how?\" ", he(asker), " asked.");
  say("\"It is not easy to ", asked.trade.infinitive, ",\" said ", asked.name.name, ". \"But you can try at ",
      asked.trade.place, ".\"");
  say("The first time, it went wrong. The second time, it went wrong again, and ", asker.name.name, " was ",
      pick(sorry_feelings()).feeling);
  say("The third time, ", asker.name.name, " ", asked.trade.past, " as well as ", asked.name.name, " the ", asked.trade.trade);
  say("\"You are a good ", asked.trade.trade, " now, ", asker.name.name, ",\" said ", asked.name.name, ".");
}

void StoryWriter::walk_home() {
  say("On the way home from ", other_place_.place, " they met ", animal_name_, ", and the ", animal_colour_, " ",
      animal_.animal, " ", animal_.walk, " beside them");
  if (random_.below(2))
    say(hero_.name.name, " carried ", his(hero_), " ", hero_.thing.thing, " and ", friend_.name.name, " sang a song");
}

void StoryWriter::ending() {
  const auto gladness = pick(glad_feelings());
  say("In the evening ", hero_.name.name, ", ", friend_.name.name, " and ", animal_name_, " the ", animal_.animal, " ate ",
      food_, " together at ", random_.below(2) ? hero_.trade.place : friend_.trade.place);
  if (random_.below(2))
    say("\"This was a good day,\" said ", friend_.name.name, " and put the ", friend_.colour, " ", friend_.thing.thing,
        " on the table.");
  say(hero_.name.name, " the ", hero_.trade.trade, " was ", gladness.feeling, " and ", gladness.sign);
  if (random_.below(2))
    say("From that day on they knew that ", pick(lessons()));
  else
    say("Then ", he(hero_), " took the ", hero_.colour, " ", hero_.thing.thing, " and went to bed");
  if (random_.below(3) == 0) say("The end");
}

}  // namespace echo::story
