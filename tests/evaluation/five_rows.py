"""Five rows made by hand of benchmarks, in the layout of the hub and in the published local one.

Benchmark -> (subset or "", rows on the hub or None, local file -> its text).
"""

import json

from layouts import lines

Rows = tuple[str, list[dict] | None, dict[str, str]]


def squad_style(questions: list[tuple[str, str, list[str]]], title: str) -> str:
    """One article whose paragraphs each have the questions on the same context."""
    paragraphs: dict[str, list[dict]] = {}
    for number, (context, question, answers) in enumerate(questions):
        found = [{"id": "1", "text": text, "answer_start": context.find(text)} for text in answers]
        row = {"id": f"1-{number}", "question": question, "answers": found}
        paragraphs.setdefault(context, []).append(row)
    data = [{"context": text, "id": str(n), "qas": qas} for n, (text, qas) in enumerate(paragraphs.items())]
    article = {"title": title, "id": "1", "paragraphs": data}
    return json.dumps({"version": "1.3", "data": [article]}, ensure_ascii=False)


def read_on_hub(questions: list[tuple[str, str, list[str]]]) -> list[dict]:
    return [
        {
            "id": f"1-{number}",
            "context": context,
            "question": question,
            "answers": {"text": answers, "answer_start": [context.find(text) for text in answers]},
        }
        for number, (context, question, answers) in enumerate(questions)
    ]


CMRC = [
    ("小河在村子的东边。河上有三座桥。", "小河在哪边？", ["东边", "村子的东边", "东边"]),
    ("小河在村子的东边。河上有三座桥。", "河上有几座桥？", ["三座", "三", "三座桥"]),
    ("老王1998年开店，卖茶和Java咖啡。", "哪年开店？", ["1998年", "1998", "1998年"]),
    ("老王1998年开店，卖茶和Java咖啡。", "卖什么咖啡？", ["Java咖啡", "Java", "Java咖啡"]),
    ("天气很好。", "天气怎么样？", ["很好", "很好", "好"]),
]
DRCD = [
    ("小河在村子的東邊。", "小河在哪裡?", ["東邊"]),
    ("小河在村子的東邊。", "東邊有什麼?", ["小河"]),
    ("他讀了三本書。", "幾本?", ["三本"]),
    ("他讀了三本書。", "讀了什麼?", ["書"]),
    ("天氣很好。", "天氣如何?", ["很好"]),
]
QUESTIONS_ZH = [
    ("一加一等于几？", ["(A)一", "(B)二", "(C)三", "(D)四"], "B"),
    ("哪些是质数？", ["(A)二", "(B)三", "(C)四", "(D)六"], ["A", "B"]),
    ("哪些是偶数？", ["(A)二", "(B)三", "(C)四", "(D)五"], "AC"),
    ("水是什么？", ["(A)液体", "(B)金属", "(C)气体", "(D)石头"], "A"),
    ("最小的是？", ["(A)一", "(B)二", "(C)三"], "A"),
]
QUESTIONS_EN = [
    ("All cats sleep. ", "Which follows?", ["(A)a", "(B)b", "(C)c", "(D)d", "(E)e"], "E"),
    (None, "1 + 1 =", ["(A)1", "(B)2", "(C)3", "(D)4", "(E)5"], "B"),
    ("", "2 + 2 =", ["(A)4", "(B)5", "(C)6", "(D)7"], "A"),
    (None, "3 + 3 =", ["(A)4", "(B)5", "(C)6", "(D)7"], "C"),
    (None, "4 + 4 =", ["(A)8", "(B)5", "(C)6", "(D)7"], "A"),
]


def agieval(rows: list[tuple], query: str, letter: str, subset: str) -> Rows:
    hub, local = [], []
    for passage, question, options, label in rows:
        last = "ABCDE"[len(options) - 1]
        text = (passage or "") + query.format(question=question, options=" ".join(options))
        gold = ["ABCDE".index(one) for one in label]
        hub.append({"query": text + letter.format(last), "choices": options, "gold": gold})
        local.append(
            {"passage": passage, "question": question, "options": options, "label": label, "answer": None}
        )
    return subset, hub, {f"{subset}.jsonl": lines(*local)}


BBH = [
    {"input": "True and not True is", "target": "False"},
    {"input": "not ( True ) and ( True ) is", "target": "False"},
    {"input": "True or False is", "target": "True"},
    {"input": "not not True is", "target": "True"},
    {"input": "False or not False is", "target": "True"},
]
GPQA = [
    {
        "Question": "Which number is even" + "?" * number,
        "Correct Answer": f" {2 * number}\n",
        "Incorrect Answer 1": "1",
        "Incorrect Answer 2": "3",
        "Incorrect Answer 3": "5",
        "Record ID": f"rec{number}",
    }
    for number in range(1, 6)
]
GPQA_FIELDS = list(GPQA[0])
NLI = [("A dog runs.", "An animal moves", 0), ("It rains.", "It is dry", 1), ("He sang.", "He laughed", 1)]
NLI += [("Two cups fell.", "Cups fell", 0), ("She left.", "She stayed", 1)]
CB = [
    (premise, claim, label if label < 1 else 1 + number % 2)
    for number, (premise, claim, label) in enumerate(NLI)
]
COPA = [
    {
        "premise": "The road was wet.",
        "choice1": "It rained.",
        "choice2": "It was noon.",
        "question": "cause",
        "label": 0,
    },
    {"premise": "He fell. ", "choice1": "He sang.", "choice2": "He cried.", "question": "effect", "label": 1},
    {
        "premise": "She won!",
        "choice1": "She smiled.",
        "choice2": "She slept.",
        "question": "effect",
        "label": 0,
    },
    {
        "premise": "The milk was sour.",
        "choice1": "It was old.",
        "choice2": "It was new.",
        "question": "cause",
        "label": 0,
    },
    {
        "premise": "The light went out.",
        "choice1": "It got dark.",
        "choice2": "It got hot.",
        "question": "effect",
        "label": 0,
    },
]
WSC = [
    ("Mark told Pete a lie about himself , which Pete didn't believe .", "Pete", 2, "himself", 6, False),
    ('The cup ( a gift ) was , " she said , hers .', "cup", 1, "she", 9, False),
    ("Ann thanked Beth because she had helped .", "Beth", 2, "she", 4, True),
    ("The ball broke the table because it was n't strong .", "The table", 3, "it", 6, True),
    ("Tom saw the dog's bone; he took it.", "dog", 3, "it.", 7, False),
]
WIC = [
    ("bank", "The bank of the river.", "A bank lends money.", 4, 8, 2, 6, False),
    ("run", "They run fast.", "I run daily.", 5, 8, 2, 5, True),
    ("light", "A light bag.", "Switch on the light.", 2, 7, 14, 19, False),
    ("cold", "A cold day.", "Cold water.", 2, 6, 0, 4, True),
    ("bat", "The bat flew.", "He swung the bat.", 4, 7, 13, 16, False),
]
SUMS = [
    ("Ann has 2 pens and buys 3. How many?", 5),
    ("4 boxes of 5?", 20),
    ("10 less 3?", 7),
    ("1,000 and 200?", 1200),
]
SUMS += [("Half of 6?", 3)]
TRIVIA = [
    ("What is the capital of France", ["Paris", "City of Paris"]),
    ("Who wrote Hamlet", ["Shakespeare", "W. Shakespeare", "William Shakespeare"]),
    ("What is H2O", ["Water", "water"]),
    ("How many legs has a spider", ["8", "eight"]),
    ("Which planet is red", ["Mars"]),
]
LONG = [
    {"input": "谁来了？", "context": "小明来了。" * 3, "answers": ["小明"], "length": 15, "_id": "1"},
    {"input": "何时？", "context": "三点钟，天亮。", "answers": ["三点", "三点钟"], "length": 7, "_id": "2"},
    {"input": "在哪？", "context": "他在北京。", "answers": ["北京"], "length": 5, "_id": "3"},
    {"input": "几个？", "context": "五个。", "answers": ["五", "五个"], "length": 3, "_id": "4"},
    {"input": "为什么？", "context": "因为下雨。", "answers": ["下雨"], "length": 5, "_id": "5"},
]
PAGES = [
    " = Robert = \n\n He was , he said , a 4 @,@ 000 @-@ pound man ( of 3 @.@ 5 N ) . \n",
    ' = = Early life = = \n The dogs \' home ; " here " [ sic ] . \n',
    " = = = Notes = = = \n It 's 20 ° C ! Is it ? Yes : it is . \n",
    " Plain text without marks . \n",
    " He said ' no ' and { left } . \n = = = = X = = = = \n",
]


def flags(rows: list[tuple], names: list[str], hub_label: dict) -> tuple[list[dict], str]:
    local = [dict(zip(names, row, strict=True)) for row in rows]
    return [{**row, "label": hub_label[row["label"]]} for row in local], lines(*local)


BOOL = {False: 0, True: 1}
RTE_LOCAL = [{"premise": p, "hypothesis": h, "label": ["entailment", "not_entailment"][n]} for p, h, n in NLI]
CB_LOCAL = [
    {"premise": p, "hypothesis": h, "label": ["entailment", "contradiction", "neutral"][n]} for p, h, n in CB
]
WIC_HUB, WIC_TEXT = flags(
    WIC, ["word", "sentence1", "sentence2", "start1", "end1", "start2", "end2", "label"], BOOL
)
WSC_HUB = [
    {"text": t, "span1_text": a, "span1_index": i, "span2_text": b, "span2_index": j, "label": int(label)}
    for t, a, i, b, j, label in WSC
]
WSC_LOCAL = [
    {
        "text": r["text"],
        "target": {k: v for k, v in r.items() if k.startswith("span")},
        "label": bool(r["label"]),
    }
    for r in WSC_HUB
]
MMLU_PRO = [
    {
        "question_id": number,
        "question": f"What is {number} + 1?",
        "options": [str(n) for n in range(number, number + 3 + number)],
        "answer": "B",
        "answer_index": 1,
        "cot_content": f"A: Let's think step by step. {number} + 1. The answer is (B).",
        "category": "math",
    }
    for number in range(5)
]
MMLU_PRO_SHOWN = [
    {**row, "question_id": 100 + number, "question": f"Show {number} + 1!", "category": category}
    for category in ("law", "math")
    for number, row in enumerate(MMLU_PRO)
]
MATH = [
    {"problem": "What is $1/2+1/4$?", "solution": "", "answer": "\\frac{3}{4}", "unique_id": "test/a/1.json"},
    {"problem": "What is $2^5$?", "solution": "", "answer": "32", "unique_id": "test/a/2.json"},
    {"problem": "Solve $x-1=0$.", "solution": "", "answer": "1", "unique_id": "test/a/3.json"},
    {"problem": "Give the interval.", "solution": "", "answer": "(0, 1]", "unique_id": "test/a/4.json"},
    {"problem": "Name it.", "solution": "", "answer": "\\text{Evelyn}", "unique_id": "test/a/5.json"},
]
LONG_EN = [{**row, "context": f"Text {row['_id']}.", "input": "Who?", "answers": ["He"]} for row in LONG]
ROWS: dict[str, Rows] = {
    "cmrc2018": ("", read_on_hub(CMRC), {"cmrc2018_dev.json": squad_style(CMRC, "村子")}),
    "drcd": ("", read_on_hub(DRCD), {"DRCD_dev.json": squad_style(DRCD, "村子")}),
    "agieval_zh": agieval(
        [(None, *row) for row in QUESTIONS_ZH],
        "问题：{question} 选项：{options}\n",
        "答案：从A到{}, 我们应选择",
        "gaokao-physics",
    ),
    "agieval_en": agieval(
        QUESTIONS_EN,
        "Q: {question} Answer Choices: {options}\n",
        "A: Among A through {}, the answer is",
        "lsat-lr",
    ),
    "bbh": (
        "boolean_expressions",
        BBH,
        {"boolean_expressions.json": json.dumps({"canary": "none", "examples": BBH})},
    ),
    "csldcp": (
        "",
        None,
        {
            "test_public.json": lines(
                *(
                    {"content": f"研究了{name}。", "label": name, "id": n}
                    for n, name in enumerate(
                        ["力学", "畜牧学/兽医学", "图书馆、情报与档案管理", "数学", "植物保护"]
                    )
                )
            )
        },
    ),
    "iflytek": (
        "",
        None,
        {
            "test_public.json": lines(
                *(
                    {"label": n, "label_des": name, "sentence": f"这是{name}应用。", "id": n}
                    for n, name in [
                        (0, "打车"),
                        (61, "语言(非英语)"),
                        (23, "MOBA"),
                        (118, "其他"),
                        (2, "免费WIFI"),
                    ]
                )
            )
        },
    ),
    "rte": (
        "",
        [{"premise": p, "hypothesis": h, "label": n} for p, h, n in NLI],
        {"val.jsonl": lines(*RTE_LOCAL)},
    ),
    "cb": (
        "",
        [{"premise": p, "hypothesis": h, "label": n} for p, h, n in CB],
        {"val.jsonl": lines(*CB_LOCAL)},
    ),
    "copa": ("", COPA, {"val.jsonl": lines(*COPA)}),
    "wsc": ("", WSC_HUB, {"val.jsonl": lines(*WSC_LOCAL)}),
    "wic": ("", WIC_HUB, {"val.jsonl": WIC_TEXT}),
    "mmlu_pro": ("math", MMLU_PRO, {}),
    "gpqa": (
        "gpqa_diamond",
        GPQA,
        {
            "gpqa_diamond.csv": "".join(
                ",".join(json.dumps(str(cell), ensure_ascii=False).replace("\\n", "\n") for cell in row)
                + "\n"
                for row in [GPQA_FIELDS, *(list(one.values()) for one in GPQA)]
            )
        },
    ),
    "math_500": ("", MATH, {"test.jsonl": lines(*MATH)}),
    "mgsm_en": (
        "",
        [{"question": q, "answer": None, "answer_number": n, "equation_solution": None} for q, n in SUMS],
        {"mgsm_en.tsv": "".join(f"{q}\t{n}\n" for q, n in SUMS)},
    ),
    "trivia_qa": (
        "web",
        [{"question": q, "question_id": q, "answer": {"aliases": a, "value": a[0]}} for q, a in TRIVIA],
        {
            "qa/web-dev.json": json.dumps(
                {
                    "Data": [
                        {"Question": q, "QuestionId": q, "Answer": {"Aliases": a, "Value": a[0]}}
                        for q, a in TRIVIA
                    ],
                    "Domain": "Web",
                    "Version": 1.0,
                }
            )
        },
    ),
    "longbench_zh": ("multifieldqa_zh", LONG, {"data/multifieldqa_zh.jsonl": lines(*LONG)}),
    "longbench_en": ("hotpotqa", LONG_EN, {"data/hotpotqa.jsonl": lines(*LONG_EN)}),
    "wikitext": (
        "",
        [{"page": page} for page in PAGES],
        {"test.jsonl": lines(*({"page": page} for page in PAGES))},
    ),
}
