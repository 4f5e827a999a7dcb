"""Read reasoning-gym's items, metadata included; each function is named after its family."""

from collections.abc import Callable

from reasoning_gym.arithmetic.leg_counting import ANIMALS

Reading = tuple[dict[str, str], str, list[str]]  # slots of a phrasing, answer, worked steps


def chain_sum(item: dict) -> Reading:
    first, *tokens = item["expression"].split()
    total, steps = int(first), []
    for sign, term in zip(tokens[::2], tokens[1::2], strict=True):
        tens, units = int(term) // 10 * 10, int(term) % 10
        for part in [part for part in (tens, units) if part] or [0]:
            result = total + part if sign == "+" else total - part
            steps.append(f"{total} {sign} {part} = {result}")
            total = result
    return {"x": item["expression"]}, item["answer"], steps


def decimal_chain_sum(item: dict) -> Reading:
    return {"x": item["expression"]}, item["answer"], []


def leg_counting(item: dict) -> Reading:
    total, steps = 0, []
    for animal, count in item["animals"].items():
        legs = count * ANIMALS[animal]
        product = f"{count} {animal}: {count} x {ANIMALS[animal]} = {legs}"
        steps.append(f"{product}, {total} + {legs} = {total + legs}")
        total += legs
    return {"x": ", ".join(f"{n} {animal}" for animal, n in item["animals"].items())}, item["answer"], steps


def letter_counting(item: dict) -> Reading:
    letter, words = item["target_letter"], [word.lower() for word in item["span"]]
    steps = [f"{' '.join(word)}: {word.count(letter)}" for word in words]
    return {"letter": letter, "x": " ".join(words)}, item["answer"], steps


def word_sorting(item: dict) -> Reading:
    return _sorting([word.lower() for word in item["original_words"]], item["direction"], str)


def number_sorting(item: dict) -> Reading:
    return _sorting(_integers(item["original_numbers"]), item["direction"], int)


def _sorting(items: list[str], direction: str, key: Callable) -> Reading:
    ordered = sorted(items, key=key, reverse=direction == "descending")
    remaining, steps = list(items), []
    for item in ordered:
        steps.append(f"{' '.join(remaining)}: {item}")
        remaining.remove(item)
    return {"x": ", ".join(items), "direction": direction}, ", ".join(ordered), steps


def _integers(numbers: list) -> list[str]:
    return [f"{float(number):.0f}" for number in numbers]


def spell_backward(item: dict) -> Reading:
    word = item["word"].lower()
    return {"x": word}, word[::-1], [" ".join(word), " ".join(word[::-1])]


def word_sequence_reversal(item: dict) -> Reading:
    words = [word.lower() for word in item["words"]]
    return {"x": ", ".join(words)}, ", ".join(words[::-1]), []


def number_filtering(item: dict) -> Reading:
    numbers, result = _integers(item["original_numbers"]), _integers(item["result"])
    steps = [f"{number} {'kept' if number in result else 'dropped'}" for number in numbers]
    verb, side = item["operation"].split("_")
    [bound] = _integers([item["filter_value"]])
    slots = {"x": ", ".join(numbers), "verb": verb, "side": side, "bound": bound}
    return slots, ", ".join(result) or "none", steps


def needle_haystack(item: dict) -> Reading:
    story, question = item["question"].split("\n")
    fact = question.split("?")[0].removeprefix("Who ")
    sentence = next(sentence for sentence in story.split(". ") if sentence.endswith(fact))
    return {"x": story.strip(), "fact": fact}, item["answer"], [f"{sentence}."]


def ransom_note(item: dict) -> Reading:
    return {"x": item["ransom_note"], "letters": item["magazine"]}, "yes" if item["solution"] else "no", []
