// What the board says about its rows, scores and tests, in Chinese: English template -> translation.

export const chineseMessages = {
  "Leaderboard": "排行榜",
  "{before}, {last}": "{before}、{last}",
  // Scores that are set apart
  "{count} of {total} items": "{total} 题中的 {count} 题",
  "{count} of {total} items asked alike": "{total} 题中 {count} 题提问相同",
  "other prompts": "提示不同",
  "the same items in another order": "题目相同，顺序不同",
  "untrained head": "分类头未训练",
  // Alarms
  "{model} on {column}: {problem}": "{model}，{column}：{problem}",
  "{model} on {column}, {run}: {problem}": "{model}，{column}，{run}：{problem}",
  "the predictions are missing": "缺少预测文件",
  "predictions can't be read: {reason}": "预测文件无法读取：{reason}",
  "{file}: was changed since it was written": "{file} 在写入之后被改动过",
  "{file}: can't be read ({error})": "{file} 无法读取（{error}）",
  "its file of predictions has {count} of the {total} items that it scored": "所评的 {total} 题中，预测文件只有 {count} 题",
  "results.json says {metric} {score}, its file of predictions {value}": "results.json 中的 {metric} 是 {score}，由预测文件算出的是 {value}",
  "{model} on {column}: {count} of {total} items score otherwise in {other} than in {run}, though model and prompts are the same (first: item {item})":
    "{model}，{column}：模型和提示都相同，但 {total} 题中有 {count} 题在 {other} 与 {run} 中的得分不同（第一题：{item}）",
  // Remarks on a row
  "not verified: its scores have no checksums (made by an earlier version, or copied without run.json)": "未经核实：其分数没有校验和（由旧版本生成，或复制时缺少 run.json）",
  "not verified: the scores of {scores} have no checksums (made by an earlier version, or copied without run.json)": "未经核实：{scores}的分数没有校验和（由旧版本生成，或复制时缺少 run.json）",
  "{model} on {benchmark}": "{model} 在 {benchmark} 上",
  "{scores} and {count} more": "{scores}，以及另外 {count} 项",
  "{file} is damaged, or was changed since it was written": "{file} 已损坏，或在写入之后被改动过",
  "{file} is missing, so the merge is not proven": "缺少 {file}，因此合并未得到证实",
  "{file} was changed since it was written, so the merge is not proven": "{file} 在写入之后被改动过，因此合并未得到证实",
  "{file} can't be read, so the merge is not proven": "{file} 无法读取，因此合并未得到证实",
  "The logits of the merged model ({dtype}) are within {distance} of the {reference}'s (allowed: {bound}); {flips} of {positions} next tokens or labels differ.":
    "合并后的模型（{dtype}）的 logits 与 {reference} 的相差不超过 {distance}（容许 {bound}）；{positions} 个下一词元或标签中有 {flips} 个不同。",
  "its name looks like that of another row, but has {letters}": "其名称看起来与另一行相同，但含有 {letters}",
  "{benchmark}: no item fits the model's context ({count} left out)": "{benchmark}：没有一题能放进模型的上下文（略去 {count} 题）",
  "not scored on everything: {reason}": "没有评完全部内容：{reason}",
  "{column}: the merged model answers {count} of {total} items otherwise than the adapter": "{column}：{total} 题中有 {count} 题，合并后的模型的回答与适配器不同",
  "contaminated: its training rows have items of the benchmarks ({counts}; {file} lists them)": "受污染：其训练数据中有基准的题目（{counts}；详见 {file}）",
  "{count} of {total} of {benchmark}": "{benchmark} 的 {total} 题中有 {count} 题",
  "{benchmarks} and others": "{benchmarks}等",
  // Tests without a verdict
  "against the most frequent class, because the head of the base is untrained": "与最常见的类别比较，因为基座的分类头没有训练过",
  "no item and prompt in common": "没有提示相同的共同题目",
  "no test for this metric: it isn't computed from its items": "该指标没有检验：它不是由各题算出的",
  "no item differs": "没有结果不同的题目",
  "no cluster differs": "没有结果不同的题组",
  "too few items differ": "结果不同的题目太少",
  "too few clusters differ": "结果不同的题组太少",
  "not settled": "检验与区间不一致，没有定论",
  "descriptive: fewer than 5 seeds a side": "仅作描述：每边少于 5 个种子",
  "the variance of seeds and items is estimated as 0": "种子与题目的方差估计为 0",
  // Columns that are left out of a mean
  "only {count} of {total} models have it": "{total} 个模型中只有 {count} 个有此列",
  "{metric} isn't a share of right items": "{metric} 不是答对的比例",
  "guessing is always right": "随机猜测总是对的",
  "{column} is in it, one column a benchmark": "已计入 {column}，每个基准只取一列",
  // Files that are left out
  "the scores of {model} on {benchmark} were changed since they were written, and are left out (recipe=evaluate run_dir={folder} scores them again)":
    "{model} 在 {benchmark} 上的分数在写入之后被改动过，已略去（recipe=evaluate run_dir={folder} 可重新评分）",
  "the scores of {model} are of an earlier training or merge, and are left out (recipe=evaluate run_dir={folder} scores the present model)":
    "{model} 的分数属于之前的训练或合并，已略去（recipe=evaluate run_dir={folder} 可评现在的模型）",
  "not the record of a failure ({reason})": "不是失败的记录（{reason}）",
  "not a comparison of two models": "不是两个模型的比较",
  "{key} is {value}": "{key} 的值是 {value}",
  "not the results of a run of this project (nested too deeply)": "不是本项目运行的结果（嵌套过深）",
  // How an item is scored, where the metric isn't the mean of its items
  "{metric} of the item alone": "单独这一题的 {metric}",
  "1 where the answer is right, else 0": "回答正确为 1，否则为 0",
  "1 where the label is right, else 0": "标签正确为 1，否则为 0",
  "log-likelihood of the text, in nats": "文本的对数似然（奈特）",
  "log-likelihood of the target, in nats": "目标的对数似然（奈特）",
  "the item's log-likelihood, in nats": "该题的对数似然（奈特）",
};
