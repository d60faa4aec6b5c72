"""What `embedded:icl` reads out of a prompt: the same four demonstrations and one question in many shapes."""

from __future__ import annotations

import json

import pytest

from metaharness.gateway.providers.embedded import answer
from metaharness.messages import Message, ModelRequest

ROWS = [
    ("the printer is out of toner and paper", "hardware"),
    ("my monitor flickers and the keyboard is broken", "hardware"),
    ("the invoice charged my card twice", "billing"),
    ("please refund the payment on my card", "billing"),
]
ASKED = "a keyboard and a monitor arrived broken"
"""Close to the second row, so the answer is `hardware`, the label that is neither first nor last in the alphabet."""


def ask(*messages: tuple[str, str], system: str | None = None) -> str:
    turns = [Message.model_validate({"role": role, "content": content}) for role, content in messages]
    return answer(ModelRequest(messages=turns, system=system)).text


def fields(source: str, target: str, *, gap: str = "\n\n", end: str = "") -> str:
    rows = gap.join(f"{source}: {text}\n{target}: {label}" for text, label in ROWS)
    return f"{rows}{gap}{source}: {ASKED}\n{end or target + ':'}"


SHAPES = {
    "q and a": fields("Q", "A"),
    "question and answer": fields("Question", "Answer"),
    "input and label": fields("Input", "Label"),
    "text and category": fields("Text", "Category"),
    "no blank lines between": fields("Text", "Label", gap="\n"),
    "numbered fields": fields("Input 1", "Output 1"),
    "emphasis": fields("**Text**", "**Label**"),
    "headings": fields("### Input", "### Output"),
    "long keys": fields("Customer message", "Correct category"),
    "unknown keys, asked for at the end": fields("Symptoms", "Diagnosis"),
    "unknown answer key, nothing at the end": fields("Text", "Diagnosis", end=" "),
    "another key for the question": fields("Q", "A").replace("Q: " + ASKED, "Question: " + ASKED),
    "answers on the next line": "\n\n".join(f"Text:\n{text}\nLabel:\n{label}" for text, label in ROWS)
    + f"\n\nText:\n{ASKED}\nLabel:",
    "texts of several paragraphs": "\n\n".join(f"Text: Hello,\n\n{text}\n\nBye\nLabel: {label}" for text, label in ROWS)
    + f"\n\nText: Hello,\n\n{ASKED}\n\nBye\nLabel:",
    "texts with fields of their own": "\n\n".join(
        f"Text: Subject: help\nBody: {text}\nNote: none\nLabel: {label}" for text, label in ROWS
    )
    + f"\n\nText: Subject: help\nBody: {ASKED}\nLabel:",
    "paragraph and label": "\n\n".join(f"{text}\nLabel: {label}" for text, label in ROWS) + f"\n\n{ASKED}\nLabel:",
    "label before text": "\n\n".join(f"Label: {label}\nText: {text}" for text, label in ROWS) + f"\n\nText: {ASKED}",
    "label before text without blank lines": "\n".join(f"Label: {label}\nText: {text}" for text, label in ROWS)
    + f"\nText: {ASKED}\nLabel:",
    "answers as JSON": "\n\n".join(f"Text: {text}\nAnswer: {json.dumps({'label': label})}" for text, label in ROWS)
    + f"\n\nText: {ASKED}\nAnswer:",
    "JSON lines": "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS)
    + "\n"
    + json.dumps({"text": ASKED}),
    "JSON lines, input and output": "\n".join(json.dumps({"input": text, "output": label}) for text, label in ROWS)
    + "\n"
    + json.dumps({"input": ASKED, "output": ""}),
    "JSON lines, question and expected": "\n".join(
        json.dumps({"question": text, "expected": label}) for text, label in ROWS
    )
    + f"\n\nClassify: {ASKED}",
    "JSON lines, unknown keys": "\n".join(json.dumps({"symptoms": text, "diagnosis": label}) for text, label in ROWS)
    + f"\n\n{ASKED}",
    "JSON lines, the last one open": "\n".join(json.dumps({"text": text, "category": label}) for text, label in ROWS)
    + f'\n{{"text": "{ASKED}", "category":',
    "JSON array": json.dumps([{"text": text, "answer": label} for text, label in ROWS], indent=2)
    + f"\n\nText: {ASKED}",
    "arrows": "\n".join(f"{text} -> {label}" for text, label in ROWS) + f"\n{ASKED} ->",
    "double arrows": "\n".join(f"{text} => {label}" for text, label in ROWS) + f"\n{ASKED} =>",
    "bulleted arrows": "\n".join(f"- {text} \u2192 {label}" for text, label in ROWS) + f"\n\n{ASKED}",
    "tabs": "\n".join(f"{text}\t{label}" for text, label in ROWS) + f"\n{ASKED}\t",
    "tags": "\n".join(f"<example><input>{text}</input><label>{label}</label></example>" for text, label in ROWS)
    + f"\n<input>{ASKED}</input>",
    "tags over lines": "\n".join(
        f"<example>\n<text>\n{text}\n</text>\n<answer>{label}</answer>\n</example>" for text, label in ROWS
    )
    + f"\n<text>\n{ASKED}\n</text>",
    "lines under headings": "Labels: billing, hardware\n\n## billing\n"
    + "\n".join(f"- {text}" for text, label in ROWS if label == "billing")
    + "\n\n## hardware\n"
    + "\n".join(f"- {text}" for text, label in ROWS if label == "hardware")
    + f"\n\nText: {ASKED}",
    "text and field on one line": "\n".join(f'Text: "{text}" | Label: {label}' for text, label in ROWS)
    + f'\nText: "{ASKED}" | Label:',
    "label behind the text": "\n".join(f"- {text} (label: {label})" for text, label in ROWS) + f"\n\nText: {ASKED}",
    "label in brackets": "\n".join(f"[{label}] {text}" for text, label in ROWS) + f"\n\nText: {ASKED}\nLabel:",
    "label as an attribute": "\n".join(f'<example label="{label}">{text}</example>' for text, label in ROWS)
    + f"\n<text>{ASKED}</text>",
    "lines under headings, no list": "## billing\n"
    + "\n".join(f"- {text}" for text, label in ROWS if label == "billing")
    + "\n\n## hardware\n\n"
    + "\n".join(f"- {text}" for text, label in ROWS if label == "hardware")
    + f"\n\n{ASKED}",
    "question first, then arrows and a request": f'Customer message:\n"""{ASKED}"""\n\nSimilar cases:\n'
    + "\n".join(f'{place}. "{text}" => {label}' for place, (text, label) in enumerate(ROWS, start=1))
    + "\n\nThink it over, then reply with exactly one of these labels: billing, hardware. Output only the label.",
    "question first, other fields": f"Query: {ASKED}\n\nExamples:\n\n"
    + "\n\n".join(f"Text: {text}\nLabel: {label}" for text, label in ROWS),
    "markdown": "# Task\nAssign one category.\n\n# Categories\n- `billing`\n- `hardware`\n\n# Examples\n\n"
    + "\n\n".join(
        f"### Example {place}\n**Message:** {text}\n**Category:** {label}" for place, (text, label) in enumerate(ROWS)
    )
    + f"\n\n# Now\n**Message:** {ASKED}\n**Category:**",
    "question first": f"Text: {ASKED}\n\nSimilar texts:\n\n"
    + "\n\n".join(f"Text: {text}\nLabel: {label}" for text, label in ROWS),
    "texts with an empty field called options": "\n\n".join(
        f"Text: {text}\nOptions:\n- none\nLabel: {label}" for text, label in ROWS
    )
    + f"\n\nText: {ASKED}\nOptions:\n- none\nLabel:",
    "the form in braces first": "Text: {text}\nLabel: {label}\n\n" + fields("Text", "Label"),
    "the form of a tag first": "What is asked stands in <text>...</text>.\n\n"
    + "\n".join(f"<text>{text}</text><label>{label}</label>" for text, label in ROWS)
    + f"\n<text>{ASKED}</text>",
    "instructions last": fields("Text", "Label", end="\nAnswer with the label of the last text only."),
    "windows line ends": fields("Text", "Label").replace("\n", "\r\n"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_demonstrations_are_read_in_the_shapes_people_write(shape: str) -> None:
    reply = ask(("user", SHAPES[shape]))

    assert reply in ("hardware", '{"label": "hardware"}')


def test_replies_in_a_chat_are_demonstrations() -> None:
    turns = [("system", "Classify.")]
    for text, label in ROWS:
        turns += [("user", text), ("assistant", label)]

    assert ask(*turns, ("user", ASKED)) == "hardware"


def test_the_form_of_the_replies_in_a_chat_is_kept() -> None:
    turns = [turn for text, label in ROWS for turn in (("user", text), ("assistant", f"Category: {label}"))]

    assert ask(*turns, ("user", ASKED)) == "Category: hardware"


def test_the_beginning_of_an_answer_is_no_demonstration() -> None:
    assert ask(("user", fields("Text", "Label")), ("assistant", "Label:")) == "hardware"


def test_demonstrations_in_the_system_prompt_count() -> None:
    rows = "\n\n".join(f"Text: {text}\nLabel: {label}" for text, label in ROWS)

    assert ask(("user", ASKED), system=rows) == "hardware"


def test_text_blocks_are_read_and_images_are_not() -> None:
    content = [
        {"type": "text", "text": fields("Text", "Label")},
        {"type": "image", "source": {"type": "base64", "data": "Label: billing"}},
    ]
    message = Message(role="user", content=content)

    assert answer(ModelRequest(messages=[message])).text == "hardware"


LISTS = {
    "inline": "Labels: billing, hardware, printer trouble",
    "inline with or": "Choose one of: billing, hardware, or printer trouble.",
    "in a sentence": "Reply with exactly one of these labels: billing, hardware, printer trouble. Nothing else.",
    "without a colon": "Reply with one of billing, hardware or printer trouble.",
    "bars": "Categories: billing | hardware | printer trouble",
    "heading": "## Possible labels\n- `billing`\n- `hardware`\n- `printer trouble`",
    "array": 'Options: ["billing", "hardware", "printer trouble"]',
    "array without quotes": "Options: [billing, hardware, printer trouble]",
    "on the next line": "Allowed labels:\nbilling, hardware, printer trouble",
    "bulleted": "Labels:\n- billing\n- hardware\n- printer trouble",
    "numbered": "The possible categories are:\n\n1. billing\n2. hardware\n3. printer trouble",
    "one per line": "Allowed labels:\nbilling\nhardware\nprinter trouble",
    "tag": "<labels>\nbilling\nhardware\nprinter trouble\n</labels>",
    "inline tag": "<categories>billing, hardware, printer trouble</categories>",
    "quoted": "Labels: `billing`, `hardware`, `printer trouble`",
    "after the question": "Text: my printer has trouble\nOptions: billing, hardware, printer trouble",
}


@pytest.mark.parametrize("shape", LISTS)
def test_without_demonstrations_the_label_names_decide(shape: str) -> None:
    end = "" if shape == "after the question" else "\n\nText: my printer has trouble"

    assert ask(("user", f"Classify the text.\n{LISTS[shape]}{end}\nLabel:")) == "printer trouble"


DESCRIPTIONS = {
    "colon": "Labels:\n- north: invoices, cards and refunds\n- south: keyboards and monitors",
    "dash": "Labels:\n- north - invoices, cards and refunds\n- south - keyboards and monitors",
    "long dash": "Labels:\n* north \u2014 invoices, cards and refunds\n* south \u2014 keyboards and monitors",
    "emphasis": "Labels:\n- **north**: invoices, cards and refunds\n- **south**: keyboards and monitors",
    "no bullets": "Categories:\nnorth: invoices, cards and refunds\nsouth: keyboards and monitors",
    "second level": "Labels:\n- north\n  - invoices, cards\n  - refunds\n- south:\n  - keyboards\n  - monitors",
    "blank lines": "Labels:\n\n- north: invoices, cards and refunds\n\n- south: keyboards and monitors",
}


@pytest.mark.parametrize("shape", DESCRIPTIONS)
def test_descriptions_speak_for_their_labels(shape: str) -> None:
    prompt = f"Classify the text.\n\n{DESCRIPTIONS[shape]}\n\n"

    assert ask(("user", f"{prompt}Text: {ASKED}\nLabel:")) == "south"
    assert ask(("user", f"{prompt}Text: a refund to my card\nLabel:")) == "north"


def test_a_dash_in_a_label_that_is_demonstrated_is_part_of_it() -> None:
    prompt = f"Labels:\n- desk - hardware\n- desk - billing\n\n{fields('Text', 'Label')}"
    for label in ("hardware", "billing"):
        prompt = prompt.replace(f"Label: {label}", f"Label: desk - {label}")

    assert ask(("user", prompt)) == "desk - hardware"


def test_only_a_listed_label_is_answered() -> None:
    prompt = "Labels: billing, software\n\n" + fields("Text", "Label")

    assert ask(("user", prompt)) in ("billing", "software")


def test_a_label_is_answered_in_the_spelling_of_the_list() -> None:
    prompt = "Labels: Billing, Hardware\n\n" + fields("Text", "Label")

    assert ask(("user", prompt)) == "Hardware"


def test_more_text_for_a_label_turns_the_answer() -> None:
    prompt = fields("Text", "Label")
    contrary = "\n\n".join(["Text: a broken keyboard and a monitor arrived\nLabel: billing"] * 2)

    assert ask(("user", f"{contrary}\n\n{prompt}")) == "billing"


def test_what_is_far_too_long_for_a_label_is_none() -> None:
    prompt = f"Labels:\n- {'printer ' * 20}\n- billing\n- hardware\n\nText: a printer\nLabel:"

    assert ask(("user", prompt)) in ("billing", "hardware")


def test_a_question_alone_has_no_label() -> None:
    assert ask(("user", "How are you?")) == "unknown"
