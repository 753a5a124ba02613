#include "data/story_words.h"

namespace echo::story {
namespace {

constexpr Name kNames[] = {{"Mia", Pronoun::she},   {"Tom", Pronoun::he},   {"Nora", Pronoun::she}, {"Finn", Pronoun::he},
                           {"Ada", Pronoun::she},   {"Leo", Pronoun::he},   {"Ruby", Pronoun::she}, {"Otto", Pronoun::he},
                           {"Ivy", Pronoun::she},   {"Hugo", Pronoun::he},  {"Zoe", Pronoun::she},  {"Emil", Pronoun::he},
                           {"Clara", Pronoun::she}, {"Noah", Pronoun::he},  {"Elsa", Pronoun::she}, {"Ravi", Pronoun::he},
                           {"Lina", Pronoun::she},  {"Oscar", Pronoun::he}, {"Juno", Pronoun::she}, {"Theo", Pronoun::he}};

constexpr Trade kTrades[] = {{"baker", "the bakery", "baked bread", "bake bread"},
                             {"farmer", "the farm", "fed the hens", "feed the hens"},
                             {"painter", "the workshop", "painted a wall", "paint a wall"},
                             {"sailor", "the harbour", "mended a net", "mend a net"},
                             {"teacher", "the school", "read a long book", "read a long book"},
                             {"gardener", "the garden", "watered the roses", "water the roses"},
                             {"doctor", "the small clinic", "washed the cups", "wash the cups"},
                             {"miller", "the mill", "carried the flour", "carry the flour"}};

constexpr Animal kAnimals[] = {{"dog", "barked", "ran"},       {"cat", "meowed", "crept"},     {"owl", "hooted", "flew"},
                               {"duck", "quacked", "swam"},    {"goat", "bleated", "jumped"},  {"frog", "croaked", "hopped"},
                               {"mouse", "squeaked", "ran"},   {"horse", "neighed", "walked"}, {"crow", "called", "flew"},
                               {"rabbit", "sniffed", "hopped"}};

constexpr Thing kThings[] = {
    {"kite", "fly it on the hill"},     {"ball", "throw it over the wall"}, {"boat", "sail it on the pond"},
    {"drum", "play it in the yard"},    {"lamp", "read by its light"},      {"hat", "wear it in the sun"},
    {"key", "open the wooden box"},     {"bell", "ring it at the door"},    {"book", "read it under the tree"},
    {"basket", "fill it with apples"},  {"spoon", "stir the soup with it"}, {"scarf", "wear it in the snow"},
    {"whistle", "blow it on the path"}, {"map", "find the way with it"},    {"flute", "play a song on it"},
    {"wagon", "pull it up the road"}};

constexpr Place kPlaces[] = {{"the river", "The water was cold and clear"},
                             {"the forest", "Tall trees stood close together"},
                             {"the market", "Many people were buying fruit"},
                             {"the old bridge", "The stones were wet and green"},
                             {"the hill", "The wind blew through the grass"},
                             {"the beach", "Small waves washed over the sand"},
                             {"the barn", "It smelled of hay"},
                             {"the park", "Two children played on the swings"},
                             {"the pond", "Flies danced above the water"},
                             {"the tower", "The stairs were dark and narrow"},
                             {"the meadow", "Yellow flowers grew everywhere"},
                             {"the station", "A long train stood there"}};

constexpr Feeling kGlad[] = {{"happy", "smiled"},
                             {"proud", "stood very tall"},
                             {"glad", "clapped"},
                             {"excited", "jumped up and down"},
                             {"calm", "sat down with a smile"}};
constexpr Feeling kSorry[] = {{"sad", "looked at the ground"},
                              {"worried", "walked up and down"},
                              {"afraid", "held on to the fence"},
                              {"angry", "stamped on the floor"},
                              {"lonely", "sat down alone"}};

constexpr std::string_view kColours[] = {"red",   "blue",  "green",  "yellow", "white",
                                         "black", "brown", "golden", "purple", "grey"};
constexpr std::string_view kAnimalColours[] = {"white", "black", "brown", "grey", "golden", "spotted"};
constexpr std::string_view kSizes[] = {"little", "big", "old", "young", "tiny", "round"};
constexpr std::string_view kWeathers[] = {"It was a windy morning", "It was a warm afternoon", "It was a cold day in winter",
                                          "It was raining softly",  "The sun was shining",     "Snow lay on the roofs",
                                          "It was a foggy evening", "The first stars were out"};
constexpr std::string_view kFoods[] = {"a piece of cake", "an apple",          "warm soup",
                                       "bread and honey", "a bowl of berries", "some cheese"};
constexpr std::string_view kHidingPlaces[] = {"under a bench", "behind a stone",    "in the tall grass", "on top of a wall",
                                              "inside a box",  "between two trees", "under some leaves", "behind a door"};
constexpr std::string_view kLessons[] = {"friends help each other", "it is good to share",     "it is good to ask for help",
                                         "a promise must be kept",  "looking twice is better", "being kind costs nothing",
                                         "being brave takes time",  "the truth is always best"};

}  // namespace

std::span<const Name> names() { return kNames; }
std::span<const Trade> trades() { return kTrades; }
std::span<const Animal> animals() { return kAnimals; }
std::span<const Thing> things() { return kThings; }
std::span<const Place> places() { return kPlaces; }
std::span<const Feeling> glad_feelings() { return kGlad; }
std::span<const Feeling> sorry_feelings() { return kSorry; }
std::span<const std::string_view> colours() { return kColours; }
std::span<const std::string_view> animal_colours() { return kAnimalColours; }
std::span<const std::string_view> sizes() { return kSizes; }
std::span<const std::string_view> weathers() { return kWeathers; }
std::span<const std::string_view> foods() { return kFoods; }
std::span<const std::string_view> hiding_places() { return kHidingPlaces; }
std::span<const std::string_view> lessons() { return kLessons; }

}  // namespace echo::story
