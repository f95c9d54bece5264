"""One made-up row of every shipped benchmark, as on the hub and as in the original local file.

Benchmark -> (subset or "", row on the hub or None, local file, text of the local file, header line aside).
"""

import json

LETTERED = {"question": "太阳从哪边升起？", "A": "东", "B": "西", "C": "南", "D": "北"}
NLI = {"sentence1": "他在跑步。", "sentence2": "他在运动。"}


def lines(*rows: object) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


LAYOUTS: dict[str, tuple[str, dict | None, dict[str, str]]] = {
    "cmmlu": (
        "agronomy",
        {"Question": "太阳从哪边升起？", "A": "东", "B": "西", "C": "南", "D": "北", "Answer": "A"},
        {"test/agronomy.csv": ",Question,A,B,C,D,Answer\n0,太阳从哪边升起？,东,西,南,北,A\n"},
    ),
    "ceval": (
        "law",
        {"id": 0, **LETTERED, "answer": "A", "explanation": ""},
        {"val/law_val.csv": "id,question,A,B,C,D,answer\n0,太阳从哪边升起？,东,西,南,北,A\n"},
    ),
    "mmlu": (
        "anatomy",
        {"question": "Where is the heart?", "choices": ["chest", "head", "foot", "hand"], "answer": 0},
        {"test/anatomy_test.csv": '"Where is the heart?",chest,head,foot,hand,A\n'},
    ),
    "hellaswag": (
        "",
        {
            "activity_label": "Cooking",
            "ctx_a": "A pan [header] is hot.",
            "ctx_b": "the cook",
            "endings": ["adds oil. [title] Then eggs.", "  sleeps [step] well", "sings", "runs"],
            "label": "0",
        },
        {
            "hellaswag_val.jsonl": lines(
                {
                    "activity_label": "Cooking",
                    "ctx_a": "A pan [header] is hot.",
                    "ctx_b": "the cook",
                    "endings": ["adds oil. [title] Then eggs.", "  sleeps [step] well", "sings", "runs"],
                    "label": 0,
                }
            )
        },
    ),
    "arc_easy": (
        "",
        {
            "id": "x",
            "question": "Why?",
            "choices": {"text": ["so", "no", "oh"], "label": ["1", "2", "3"]},
            "answerKey": "2",
        },
        {
            "ARC-Easy-Test.jsonl": lines(
                {
                    "id": "x",
                    "question": {
                        "stem": "Why?",
                        "choices": [
                            {"text": "so", "label": "1"},
                            {"text": "no", "label": "2"},
                            {"text": "oh", "label": "3"},
                        ],
                    },
                    "answerKey": "2",
                }
            )
        },
    ),
    "piqa": (
        "",
        {"goal": "dry a shirt", "sol1": "hang it up", "sol2": "eat it", "label": 0},
        {
            "valid.jsonl": lines({"goal": "dry a shirt", "sol1": "hang it up", "sol2": "eat it"}),
            "valid-labels.lst": "0\n",
        },
    ),
    "winogrande": (
        "",
        {
            "sentence": "The cup fell off the shelf as _ was loose.",
            "option1": "cup",
            "option2": "shelf",
            "answer": "2",
        },
        {
            "dev.jsonl": lines(
                {
                    "qID": "1",
                    "sentence": "The cup fell off the shelf as _ was loose.",
                    "option1": "cup",
                    "option2": "shelf",
                    "answer": "2",
                }
            )
        },
    ),
    "openbookqa": (
        "",
        {
            "id": "1",
            "question_stem": "Ice is",
            "choices": {"text": ["cold", "hot"], "label": ["A", "B"]},
            "answerKey": "A",
        },
        {
            "test.jsonl": lines(
                {
                    "id": "1",
                    "question": {
                        "stem": "Ice is",
                        "choices": [{"text": "cold", "label": "A"}, {"text": "hot", "label": "B"}],
                    },
                    "answerKey": "A",
                }
            )
        },
    ),
    "boolq": (
        "",
        {"question": "is ice cold", "passage": "Ice is cold.", "idx": 0, "label": 1},
        {
            "val.jsonl": lines(
                {"question": "is ice cold", "passage": "Ice is cold.", "idx": 0, "label": "true"}
            )
        },
    ),
    "commonsenseqa": (
        "",
        {
            "id": "1",
            "question": "Where do fish live?",
            "question_concept": "fish",
            "choices": {"label": list("ABCDE"), "text": ["sea", "sky", "bed", "sun", "car"]},
            "answerKey": "A",
        },
        {
            "dev_rand_split.jsonl": lines(
                {
                    "answerKey": "A",
                    "id": "1",
                    "question": {
                        "question_concept": "fish",
                        "stem": "Where do fish live?",
                        "choices": [
                            {"label": label, "text": text}
                            for label, text in zip("ABCDE", ["sea", "sky", "bed", "sun", "car"], strict=True)
                        ],
                    },
                }
            )
        },
    ),
    "truthfulqa_mc1": (
        "",
        {
            "question": "Do pigs fly?",
            "mc1_targets": {"choices": ["No.", "Yes."], "labels": [1, 0]},
            "mc2_targets": {"choices": ["No.", "They don't.", "Yes."], "labels": [1, 1, 0]},
        },
        {
            "mc_task.json": json.dumps(
                [
                    {
                        "question": "Do pigs fly?",
                        "mc1_targets": {"No.": 1, "Yes.": 0},
                        "mc2_targets": {"No.": 1, "They don't.": 1, "Yes.": 0},
                    }
                ]
            )
        },
    ),
    "lambada": (
        "",
        {"text": "He opened the door"},
        {"lambada_test.jsonl": lines({"text": "He opened the door"})},
    ),
    "gsm8k": (
        "",
        {"question": "2 and 2?", "answer": "2+2=<<2+2=4>>4\n#### 1,004"},
        {"test.jsonl": lines({"question": "2 and 2?", "answer": "2+2=<<2+2=4>>4\n#### 1,004"})},
    ),
    "sst2": (
        "",
        {"sentence": 'a "fine film ', "label": 1, "idx": 0},
        {"dev.tsv": 'sentence\tlabel\na "fine film \t1\n'},
    ),
    "ag_news": (
        "",
        {"text": "Rain falls It is wet.", "label": 3},
        {"test.csv": "Class Index,Title,Description\n4,Rain falls,It is wet.\n"},
    ),
    "c3": (
        "",
        {
            "id": 0,
            "context": ["甲：你好", "乙：再见"],
            "question": "乙说什么？",
            "choice": ["再见", "你好"],
            "answer": "再见",
        },
        {
            "dev_0.json": json.dumps(
                [
                    [
                        ["甲：你好", "乙：再见"],
                        [{"question": "乙说什么？", "choice": ["再见", "你好"], "answer": "再见"}],
                        "0",
                    ]
                ]
            )
        },
    ),
    "cmnli": (
        "",
        {"idx": 0, **NLI, "label": 1},
        {"cmnli_public/dev.json": lines({**NLI, "label": "entailment"}, {**NLI, "label": "-"})},
    ),
    "afqmc": ("", {"idx": 0, **NLI, "label": 0}, {"dev.json": lines({**NLI, "label": "0"})}),
    "xnli_zh": (
        "",
        {"premise": "他在跑步。", "hypothesis": "他在运动。", "label": 0},
        {
            "xnli.dev.tsv": "language\tgold_label\tsentence1\tsentence2\n"
            "en\tneutral\tHe runs.\tHe moves.\nzh\tentailment\t他在跑步。\t他在运动。\n"
        },
    ),
    "xstorycloze_zh": (
        "",
        {
            "story_id": "1",
            "input_sentence_1": "天黑了。",
            "input_sentence_2": "他累了。",
            "input_sentence_3": "他回家。",
            "input_sentence_4": "他躺下。",
            "sentence_quiz1": "他睡了。",
            "sentence_quiz2": "他上班。",
            "answer_right_ending": 1,
        },
        {
            "spring2016.val.zh.tsv.split_20_80_eval.tsv": "InputStoryid\tInputSentence1\tInputSentence2\t"
            "InputSentence3\tInputSentence4\tRandomFifthSentenceQuiz1\tRandomFifthSentenceQuiz2\tAnswerRightEnding\n"
            "1\t天黑了。\t他累了。\t他回家。\t他躺下。\t他睡了。\t他上班。\t1\n"
        },
    ),
    "xcopa_zh": (
        "",
        {
            "premise": "地湿了。",
            "choice1": "下雨了。",
            "choice2": "Xi笑了。",
            "question": "cause",
            "label": 0,
            "idx": 0,
            "changed": False,
        },
        {
            "test.zh.jsonl": lines(
                {
                    "premise": "地湿了。",
                    "choice1": "下雨了。",
                    "choice2": "Xi笑了。",
                    "question": "cause",
                    "label": 0,
                }
            )
        },
    ),
    "mgsm_zh": (
        "",
        {"question": "二加二？", "answer": None, "answer_number": 4, "equation_solution": None},
        {"mgsm_zh.tsv": "二加二？\t4\n"},
    ),
    "eprstmt": ("", None, {"test_public.json": lines({"id": 0, "sentence": "很好", "label": "Positive"})}),
    "tnews": (
        "",
        None,
        {
            "test_public.json": lines(
                {"label": 104, "label_desc": "news_finance", "sentence": "涨了", "keywords": "", "id": 0}
            )
        },
    ),
    "ocnli": ("", None, {"test_public.json": lines({**NLI, "label": "neutral", "id": 0})}),
    "bustm": ("", None, {"test_public.json": lines({"id": 0, **NLI, "label": "1"})}),
    "csl": (
        "",
        None,
        {"test_public.json": lines({"id": 0, "abst": "论文。", "keyword": ["一", "二"], "label": "1"})},
    ),
    "chid": (
        "",
        None,
        {
            "test_public.json": lines(
                {"id": 0, "candidates": ["一心一意", "三心二意"], "content": "他#idiom#地学习。", "answer": 0}
            )
        },
    ),
    "cluewsc": (
        "",
        None,
        {
            "test_public.json": lines(
                {
                    "target": {"span1_text": "小明", "span1_index": 0, "span2_text": "他", "span2_index": 5},
                    "idx": 0,
                    "label": "true",
                    "text": "小明说过他来。",
                }
            )
        },
    ),
    "perplexity": ("", None, {"test.jsonl": lines({"text": "任何 text"})}),
}
ALIKE = {
    "arc_challenge": "arc_easy",
    "truthfulqa_mc2": "truthfulqa_mc1",
    "sst2_head": "sst2",
    "ag_news_head": "ag_news",
    "eprstmt_head": "eprstmt",
    "tnews_head": "tnews",
}
"""Benchmarks that read the rows of another one."""
