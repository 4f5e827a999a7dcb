"""Read reasoning-gym's items; each function is named after its family."""

from reasoning_gym.arithmetic.leg_counting import ANIMALS

Reading = tuple[dict[str, str], str, list[str]]  # slots of a phrasing, answer, worked steps


def chain_sum(item: dict) -> Reading:
    tokens = item["metadata"]["expression"].split()
    total, steps = int(tokens[0]), []
    for sign, term in zip(tokens[1::2], tokens[2::2], strict=True):
        tens, units = int(term) // 10 * 10, int(term) % 10
        for part in [part for part in (tens, units) if part] or [0]:
            result = total + part if sign == "+" else total - part
            steps.append(f"{total} {sign} {part} = {result}")
            total = result
    return {"x": " ".join(tokens)}, item["answer"], steps


def decimal_chain_sum(item: dict) -> Reading:
    return {"x": item["metadata"]["expression"]}, item["answer"], []


def leg_counting(item: dict) -> Reading:
    animals, total, steps = item["metadata"]["animals"], 0, []
    for animal, count in animals.items():
        legs = count * ANIMALS[animal]
        product = f"{count} {animal}: {count} x {ANIMALS[animal]} = {legs}"
        steps.append(f"{product}, {total} + {legs} = {total + legs}")
        total += legs
    return {"x": ", ".join(f"{n} {animal}" for animal, n in animals.items())}, item["answer"], steps


def letter_counting(item: dict) -> Reading:
    letter, words = item["metadata"]["target_letter"], [word.lower() for word in item["metadata"]["span"]]
    steps = [f"{' '.join(word)}: {word.count(letter)}" for word in words]
    return {"letter": letter, "x": " ".join(words)}, item["answer"], steps


def word_sorting(item: dict) -> Reading:
    metadata = item["metadata"]
    return _sorting(metadata["transformed_words"], metadata["sorted_words"], metadata["direction"])


def number_sorting(item: dict) -> Reading:
    metadata = item["metadata"]
    numbers, ordered = _integers(metadata["original_numbers"]), _integers(metadata["sorted_numbers"])
    return _sorting(numbers, ordered, metadata["direction"])


def _sorting(items: list[str], ordered: list[str], direction: str) -> Reading:
    remaining, steps = list(items), []
    for item in ordered:
        steps.append(f"{' '.join(remaining)}: {item}")
        remaining.remove(item)
    return {"x": ", ".join(items), "direction": direction}, ", ".join(ordered), steps


def _integers(numbers: list) -> list[str]:
    return [f"{float(number):.0f}" for number in numbers]


def spell_backward(item: dict) -> Reading:
    word = item["metadata"]["word"].lower()
    return {"x": word}, word[::-1], [" ".join(word), " ".join(word[::-1])]


def word_sequence_reversal(item: dict) -> Reading:
    words = [word.lower() for word in item["metadata"]["words"]]
    return {"x": ", ".join(words)}, ", ".join(words[::-1]), []


def number_filtering(item: dict) -> Reading:
    metadata = item["metadata"]
    numbers, result = _integers(metadata["original_numbers"]), _integers(metadata["result"])
    verb, side = metadata["operation"].split("_")
    slots = {"x": ", ".join(numbers), "verb": verb, "side": side}
    slots["bound"] = f"{float(metadata['filter_value']):.0f}"
    steps = [f"{number} {'kept' if number in result else 'dropped'}" for number in numbers]
    return slots, ", ".join(result) or "none", steps


def needle_haystack(item: dict) -> Reading:
    story, question = item["question"].split("\n")
    fact = question.split("?")[0].removeprefix("Who ")
    sentence = next(s for s in story.split(". ") if s.removesuffix(".").endswith(fact))
    return {"x": story.strip(), "fact": fact}, item["answer"], [sentence.strip().removesuffix(".") + "."]


def ransom_note(item: dict) -> Reading:
    metadata = item["metadata"]
    slots = {"x": metadata["ransom_note"], "letters": metadata["magazine"]}
    return slots, "yes" if metadata["solution"] else "no", []
