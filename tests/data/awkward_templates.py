"""Sound templates that ask much of a renderer, each for another part of jinja."""
# ruff: noqa: E501

AWKWARD = {
    "loop controls": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}"
    "{{ m.role }}{% if m.role == 'assistant' %}{% break %}{% endif %}{% else %}none{% endfor %}",
    "everything a loop knows": "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.cycle('a', 'b') }}{{ (loop.previtem or m).role }}{{ (loop.nextitem or m).role }}"
    "{{ loop.changed(m.role) }}{{ loop.depth }}{{ loop }}{% endfor %}",
    "a loop over what is left": "{% for m in messages if m.role != 'user' %}{{ loop.index }}{{ loop.length }}"
    "{{ m.role }}{% endfor %}",
    "a loop over an iterator": "{% for r in messages|map(attribute='role') %}{{ r }}{{ loop.last }}"
    "{{ loop.length }}{% endfor %}{% for m in messages|reverse %}{{ m.role }}{{ loop.length }}{% endfor %}",
    "namespaces": "{% set n = namespace(a=0, b=[]) %}{% for m in messages %}{% set n.a = n.a + m.content|length %}"
    "{% set n.b = n.b + [m.role] %}{% endfor %}{{ n.a }}{{ n.b }}{{ n.c is defined }}{{ n.b[1:]|join('-') }}",
    "macros": "{% macro f(m, sep=', ') -%} [{{ m.role }}{{ sep }}{{ caller() if caller else varargs }}"
    "{{ kwargs }}] {%- endmacro %}{% for m in messages %}{{ f(m) }}{{ f(m, '|', 1, x=2) }}"
    "{% call f(m) %}in{{ loop.index }}{% endcall %}{% endfor %}{{ f.name }}{{ f.arguments }}",
    "tojson": "{{ messages|tojson }}{{ messages|tojson(indent=2) }}{{ tools|tojson(ensure_ascii=true) }}"
    "{{ messages[0]|tojson(separators=(',', ':'), sort_keys=true) }}{{ '<&>\\'é' | tojson }}",
    "tools": "{% if tools is not none %}{% for t in tools %}{{ t.function.name }}{{ t.function.parameters"
    ".properties.items()|list }}{% for k, v in t.function.parameters.properties|dictsort %}{{ k }}{{ v.type }}"
    "{% endfor %}{% endfor %}{% else %}no tools{% endif %}{{ documents }}",
    "calls": "{% for m in messages %}{% if m.tool_calls is defined %}{% for c in m.tool_calls %}{{ c.function.name }}"
    "{% for k, v in c.function.arguments|items %}{{ k }}={{ v | tojson if v is not string else v }}{% endfor %}"
    "{% endfor %}{% endif %}{% endfor %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "white space": "  {%- for m in messages %}\n    {{- m.role }}\n  {% if true %}\n   x\n  {% endif %}\n{#- c #}\n"
    "{% endfor %}\n\n",
    "a line end at the end": "{{ messages[0].role }}\n",
    "carriage returns": "a\r\n{% if true %}\r\nb{% endif %}\rc",
    "raw": "{% raw %}{{ not }} {% this %}{% endraw %}{{ '{{' }}{% set x %}a{{ bos_token }}{% endset %}{{ x }}",
    "filters": "{{ 'a b'|title }}{{ ' x '|trim }}{{ 'aXb'|lower|upper|capitalize }}{{ 'a,b'.split(',')|last }}"
    "{{ [3, 1, 2]|sort|join }}{{ [1, 2, 3, 4]|batch(3, 0)|list }}{{ [1, 2, 3]|slice(2)|list }}{{ 1.25|round(1) }}"
    "{{ ['b', 'A']|unique|list }}{{ messages|groupby('role')|map(attribute='grouper')|list }}{{ 7|string }}"
    "{{ [1, 2]|sum }}{{ messages|sum(start=[], attribute='tool_calls')|length if false }}{{ '12'|int + 1 }}"
    "{{ 'a\nb\n'|indent(3, true) }}{{ 'ab'|center(9) }}{{ '%s-%05.1f'|format('x', 2) }}{{ 'a<b'|e }}"
    "{{ 'a b c d'|wordwrap(3) }}{{ 'abcdefghij'|truncate(5, true) }}{{ 'a'|replace('', '-') }}{{ [1, 2]|max }}",
    "filter blocks": "{% filter upper %}{% for m in messages %}{{ m.role }}{% endfor %}{% endfilter %}",
    "texts": "{{ 'a' ~ 1 ~ none ~ true ~ [1] }}{{ 'ab' * 3 }}{{ 'x%sy' % 'z' }}{{ '{}-{a:>4}'.format(1, a='b') }}"
    "{{ 'a-b'.replace('-', '+').upper().strip('A') }}{{ 'abc'[::-1] }}{{ '\\n' in messages[0].content }}"
    "{{ 'x'.join(['a', 'b']) }}{{ 'a b'.rsplit(' ', 1) }}{{ '%d%%' % 5 }}{{ 'é'.encode('utf-8') }}",
    "numbers": "{{ 2 ** 10 }}{{ 7 // 2 }}{{ 7 % 4 }}{{ -3 * 2.5 }}{{ 1 / 3 }}{{ 10 ** -2 }}{{ (2 ** 64) + 1 }}",
    "what is missing": "{{ messages[0].nothing }}{{ nothing }}{{ nothing is defined }}{{ messages[9] is defined }}"
    "{{ nothing|default('d') }}{{ messages[0].nothing or 'or' }}{{ nothing|length }}{{ none }}{{ 'a' if false }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{{ 'name' in m }}{% endfor %}",
    "recursion": "{% for x in [[1, [2]], [3]] recursive %}{% if x is sequence %}({{ loop(x) }}){% else %}{{ x }}"
    "{{ loop.depth }}{% endif %}{% endfor %}",
    "safe texts": "{{ '<a>'|safe ~ '<b>' }}{{ ('<{}>'|safe).format('<') }}{% autoescape true %}{{ '<' ~ '&' }}"
    "{% endautoescape %}{{ '<'|escape ~ '<' }}",
    "content in pieces": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{{ c.type }}{{ c['text'] if 'text' in c }}{% endfor %}{% endif %}{% endfor %}",
    "functions": "{{ dict(a=1) }}{{ dict.fromkeys(['a'], 2) }}{{ range(3)|list }}{{ joiner(',')() }}"
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ strftime_now('%') }}",
    "with and call": "{% with a = 1, b = messages|length %}{{ a + b }}{% endwith %}{{ messages|map('length')|list }}"
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ messages|rejectattr('tool_calls')|list }}",
}
