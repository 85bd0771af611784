// The items: what was read and seen of one, a user's purchases, and two lists. Texts from data become text nodes, never markup.
"use strict";
(() => {
  const source = document.getElementById("item-data");
  if (!source) return;
  const { datasets, backbones, inspect } = JSON.parse(source.textContent);
  const at = (id) => document.getElementById(id);
  let data, samples, shown; // the dataset, its samples by item, the item that is shown

  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const fill = (element, ...children) => element.replaceChildren(...children.filter((child) => child !== null));
  const offer = (select, pairs, value) => {
    select.replaceChildren(...pairs.map(([key, text]) => make("option", { value: key }, text)));
    if (pairs.some(([key]) => key === String(value))) select.value = value;
  };
  const many = (n, one, more = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : more}`;
  const cosine = (value, digits) => value.toFixed(digits).replace("-", "\u2212");
  const ordinal = (n) => `${n}${n % 100 > 10 && n % 100 < 14 ? "th" : ["th", "st", "nd", "rd"][n % 10] ?? "th"}`;
  const titleOf = (item) => data.items[item].title ?? `Item ${item}, no title`;
  const armName = (arm) => (arm === "content_free" ? "no features" : arm);
  const spoken = (text) => make("span", { class: "spoken" }, text);

  // a picture, or why there is none; alt is "" where the title stands next to it
  const picture = (item, alt, url = data.items[item].thumb) => url ? make("img", { src: url, alt })
    : make("span", { class: "blank" }, alt ? spoken(`${alt}: `) : null, data.items[item].status);
  const small = (item) => data.items[item].thumb ? picture(item, "") : make("span", { class: "blank", "aria-hidden": "true" });
  const lacking = (item) => data.items[item].thumb ? null : make("span", { class: "quiet" }, data.items[item].status);
  const title = (item) => samples.has(item)
    ? make("button", { type: "button", class: "open", dir: "auto", click: () => show(item, true) }, titleOf(item))
    : make("span", { class: "name", dir: "auto" }, titleOf(item));
  const mini = (item, value, marks) => make("li", { class: "mini" }, small(item), make("div", null, title(item),
    make("div", { class: "marks" }, make("span", { class: "quiet" }, value), ...marks.filter((mark) => mark), lacking(item))));
  const both = () => make("span", { class: "both" }, make("span", { "aria-hidden": "true" }, "◆ "), "in both");
  const hit = () => make("span", { class: "hit" }, make("span", { "aria-hidden": "true" }, "✓ "), "hit", spoken(": held out"));

  // long texts: the first words, and a button for the rest
  const folded = (words, limit, what) => {
    if (words.length <= limit * 1.25) return words;
    const rest = make("span", { class: "rest", hidden: true }, ...words.slice(limit));
    const button = make("button", { type: "button", class: "more", click: () => turn(!rest.hidden) });
    const turn = (isHidden) => {
      rest.hidden = isHidden;
      button.setAttribute("aria-expanded", String(!isHidden));
      button.textContent = isHidden ? `${many(words.length - limit, "more word", "more words")}${what}` : "show less";
    };
    turn(true);
    return [...words.slice(0, limit), rest, button];
  };

  // one view of an item
  const word = ([text, n], isCut) => {
    if (n < 2 && !isCut) return `${text} `;
    const found = make("span", { class: isCut ? "cut" : "" }, text);
    if (n > 1) {
      found.classList.add("many");
      found.title = many(n, "token");
      found.style.setProperty("--n", n);
      found.append(spoken(` (${many(n, "token")})`));
    }
    return make("span", null, found, " ");
  };
  const prompt = (view) => {
    const [read, cut] = [view.words.slice(0, view.n_read), view.words.slice(view.n_read)];
    const text = make("p", { class: "prompt", dir: "auto" }, ...folded(read.map((each) => word(each, false)), 80, ""));
    if (cut.length) text.append(spoken("Cut: "), ...folded(cut.map((each) => word(each, true)), 20, " that were cut"));
    const [hidden, lost] = [view.n_words - view.words.length, view.n_words - view.n_read];
    if (hidden > 0) text.append(make("span", { class: "quiet" }, ` … and ${many(hidden, "word that is", "words that are")} not on this page`));
    const notes = [many(view.n_tokens, "token")];
    if (view.n_chunks > 1) notes.push(`read in ${view.n_chunks} chunks`);
    const most = view.n_chunks > 1 ? "at most " : "";
    const loss = lost > 0 ? `${most}${many(lost, "word was", "words were")} cut` : view.truncated ? "the end was cut" : "";
    return [text, make("p", { class: "quiet" }, notes.join(", "), loss ? make("strong", { class: "loss" }, ` · ${loss}`) : null)];
  };
  const viewOf = (view, n) => {
    const weight = `${(100 * view.weight).toFixed(view.weight > 0 && view.weight < 0.1 ? 1 : 0)} %`;
    const fill = make("span", null);
    fill.style.width = `${100 * view.weight}%`;
    const rank = view.rank === null ? null
      : make("span", { class: view.rank === 1 ? "rank first" : "rank" }, view.rank === 1 ? "closest to the picture" : `${ordinal(view.rank)} of ${n}`);
    const missing = view.is_missing ? make("p", { class: "quiet absent" }, view.words.length
      ? "The item has no text for this view; the prompt says so." : "Missing: the item has no text for this view.") : null;
    return make("li", { class: "view" },
      make("div", { class: "view-name" }, make("strong", null, view.view), rank),
      make("div", { class: "view-text" }, ...(view.words.length ? prompt(view) : []), missing),
      make("div", { class: "view-numbers" },
        make("div", null, make("span", { class: "quiet" }, "weight"), make("span", null, weight)),
        make("span", { class: "bar", "aria-hidden": "true" }, fill),
        make("div", null, make("span", { class: "quiet" }, "similarity"),
          make("span", null, view.similarity === null ? "none" : cosine(view.similarity, 3)))));
  };

  // one arm of an item: its views, then its neighbours
  const saw = (found) => {
    if (found.image_is_filled) return "The item has no usable picture; a substitute stands for it.";
    const ranked = found.views.filter((view) => view.similarity !== null).sort((a, b) => b.similarity - a.similarity);
    if (!ranked.length && found.views.length) return "The texts were not compared with the picture.";
    if (ranked.length < 2) return "";
    const [first, last] = [ranked[0], ranked[ranked.length - 1]];
    return `Closest to the picture: ${first.view} (${cosine(first.similarity, 2)}). Farthest: ${last.view} (${cosine(last.similarity, 2)}).`;
  };
  const makers = (made) => {
    if (made.given) return "These features came ready-made with the dataset, so their prompts and weights are not known.";
    const settings = made.temperature === null || made.temperature === undefined ? "" : `, temperature ${made.temperature}`;
    return `Texts read by ${made.text}, pictures by ${made.image}; fusion ${made.fusion}${settings}.`;
  };
  const nearest = (text, pairs, others, isFilled) => make("div", null, make("h6", null, text), pairs.length
    ? make("ol", { class: "minis" }, ...pairs.map(([item, value]) => mini(item, cosine(value, 3), others.has(item) ? [both()] : [])))
    : make("p", { class: "quiet" }, isFilled ? "Not known: a substitute stands for the item's own." : "None."));
  const armOf = (sample, arm) => {
    const [made, found] = [data.arms[arm], sample.arms[arm]];
    const items = (pairs) => new Set(pairs.map(([item]) => item));
    const n = found.views.filter((view) => view.rank !== null).length;
    const sentence = saw(found);
    const shared = found.by_image.filter(([item]) => items(found.by_text).has(item)).length;
    return make("section", { class: "arm", "aria-label": `Arm ${arm}` },
      make("div", null, make("h5", null, make("span", { class: "quiet" }, "Arm "), arm), make("p", { class: "quiet" }, makers(made)),
        sentence ? make("p", null, sentence) : null,
        found.text_is_filled ? make("p", null, "The item has no usable text; a substitute stands for it.") : null),
      make("div", { class: "seen" }, make("ul", { class: "views" }, ...found.views.map((view) => viewOf(view, n)))),
      make("div", { class: "near" }, make("p", null, make("strong", null, "The closest other items. "),
        make("span", { class: "quiet" }, `${shared || "None"} of them ${shared > 1 ? "are" : "is"} close both by image and by fused text.`)),
        make("div", { class: "pair" }, nearest("By image", found.by_image, items(found.by_text), found.image_is_filled),
          nearest("By fused text", found.by_text, items(found.by_image), found.text_is_filled))));
  };

  // the chosen item
  const none = () => make("span", { class: "quiet" }, "none");
  const fact = (name, ...value) => make("div", null, make("dt", null, name), make("dd", { dir: "auto" }, ...value));
  const head = (item, url, facts) => make("div", { class: samples.has(item) ? "item-head" : "item-head small" },
    make("div", { class: "cover" }, picture(item, titleOf(item), url)),
    make("div", null, make("h4", { id: "item-title", tabindex: "-1", dir: "auto" }, titleOf(item)), facts));
  const asin = (item) => fact("ASIN", data.items[item].asin ?? none());
  const drawSample = (item) => {
    const sample = samples.get(item);
    const { brand, categories, description } = sample.fields;
    const words = description ? folded(description.split(" ").map((each) => `${each} `), 60, "") : [none()];
    const arms = Object.keys(sample.arms).filter((arm) => data.arms[arm]);
    const chosen = [at("item-arm")?.value, at("item-arm-2")?.value];
    const [first, second] = [make("select", { id: "item-arm" }), make("select", { id: "item-arm-2" })];
    const best = arms.reduce((a, b) => (sample.arms[b].views.length > sample.arms[a].views.length ? b : a));
    offer(first, arms.map((arm) => [arm, arm]), chosen[0] ?? best);
    const columns = make("div", { class: "arms" });
    let before = first.value;
    const draw = (wanted) => { // an arm that moves into the first column leaves the second to the other one
      const others = arms.filter((arm) => arm !== first.value).map((arm) => [arm, arm]);
      offer(second, [["", "no second arm"], ...others], wanted === first.value ? before : wanted);
      before = first.value;
      const both = [first.value, second.value].filter((arm) => arm);
      columns.classList.toggle("two", both.length > 1);
      columns.replaceChildren(...both.map((arm) => armOf(sample, arm)));
    };
    first.addEventListener("change", () => draw(second.value));
    second.addEventListener("change", () => draw(second.value));
    draw(chosen[1] ?? "");
    fill(at("item-view"),
      head(item, sample.picture, make("dl", { class: "about" }, asin(item), fact("Brand", brand || none()),
        fact("Categories", categories || none()), fact("Description", ...words))),
      make("div", { class: "fields" }, make("div", null, make("label", { for: "item-arm" }, "Arm"), first),
        arms.length > 1 ? make("div", null, make("label", { for: "item-arm-2" }, "Compare with"), second) : null),
      columns,
      make("p", { class: "quiet" }, "Similarity: the cosine of a view and the picture. Weight: how much a view counts in the fused text; the weights of an item sum to 100 %. Dashes below a word: the tokens that it is made of."));
  };
  const placesOf = (item) => {
    const found = [];
    for (const sample of data.samples) for (const [arm, each] of Object.entries(sample.arms)) {
      for (const [list, name] of [["by_image", "image"], ["by_text", "fused text"]]) {
        if (each[list].some(([other]) => other === item)) found.push([`Close by ${name} (${arm}) to `, title(sample.item)]);
      }
    }
    for (const user of data.users) {
      if (user.bought.includes(item)) found.push([`Bought by user ${user.user_id}`]);
      if (user.kept.includes(item)) found.push([`Held out of user ${user.user_id}`]);
      for (const [backbone, lists] of Object.entries(user.lists)) for (const [arm, list] of Object.entries(lists)) {
        if (list.includes(item)) found.push([`Recommended to user ${user.user_id} by ${backbones[backbone] ?? backbone}, ${armName(arm)}`]);
      }
    }
    return found;
  };
  const drawOther = (item) => {
    const places = placesOf(item);
    fill(at("item-view"),
      head(item, data.items[item].thumb, make("dl", { class: "about" }, asin(item))),
      make("p", null, "The page holds no prompts of this item. This command shows them: ",
        make("code", null, `${inspect} --dataset ${data.dataset} --item ${data.items[item].asin ?? "ASIN"}`)),
      make("h5", null, "Where it occurs"), make("ul", null, ...places.slice(0, 20).map((each) => make("li", null, ...each))),
      places.length > 20 ? make("p", { class: "quiet" }, `and in ${many(places.length - 20, "more place")}`) : null);
  };
  const show = (item, isJump) => {
    shown = item;
    (samples.has(item) ? drawSample : drawOther)(item);
    for (const button of at("item-strips").querySelectorAll("button")) {
      if (Number(button.dataset.item) === item) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    if (!isJump) return;
    at("item-shown").textContent = `Shown: ${titleOf(item)}`;
    at("item-title").focus({ preventScroll: true });
    at("item-view").scrollIntoView({ block: "start" });
  };
  const drawStrips = () => {
    const groups = [["disagree", "Where views disagree most"], ["chance", "Chosen by chance"]];
    at("item-strips").replaceChildren(...groups.flatMap(([why, text]) => {
      const found = data.samples.filter((sample) => sample.why === why);
      return found.length ? [make("h3", null, text), make("div", { class: "strip" }, ...found.map(({ item }) => make("button",
        { type: "button", "data-item": item, title: titleOf(item), click: () => {
          show(item, false);
          at("item-shown").textContent = `Shown: ${titleOf(item)}`;
        } }, picture(item, titleOf(item)))))] : [];
    }));
  };

  // search
  const MOST = 8;
  const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const close = () => { at("item-found").hidden = true; };
  const search = () => {
    const wanted = fold(at("item-search").value).split(/\s+/).filter((each) => each);
    if (!wanted.length) { close(); at("item-said").textContent = ""; return; }
    const found = Object.keys(data.items).map(Number).filter((item) => {
      const text = fold(`${titleOf(item)} ${data.items[item].asin ?? ""}`);
      return wanted.every((each) => text.includes(each));
    }).sort((a, b) => samples.has(b) - samples.has(a) || a - b);
    const rest = found.length > MOST ? ` The first ${MOST} are shown.` : "";
    at("item-said").textContent = found.length ? `${many(found.length, "item")} found.${rest}`
      : `No item found among the ${many(Object.keys(data.items).length, "item")} of this page.`;
    at("item-found").replaceChildren(...found.slice(0, MOST).map((item) => make("li", null, make("button",
      { type: "button", click: () => { close(); show(item, true); } }, small(item),
      make("span", { dir: "auto" }, titleOf(item)), make("span", { class: "quiet" }, data.items[item].asin ?? "")))));
    at("item-found").hidden = !found.length;
  };
  const step = (event) => {
    const all = [at("item-search"), ...at("item-found").querySelectorAll("button")];
    const place = all.indexOf(document.activeElement);
    if (event.key === "Escape") { close(); all[0].focus(); }
    else if (event.key === "ArrowDown" && place + 1 < all.length && !at("item-found").hidden) all[place + 1].focus();
    else if (event.key === "ArrowUp" && place > 0) all[place - 1].focus();
    else if (event.key === "Enter" && place === 0 && all.length > 1 && !at("item-found").hidden) all[1].click();
    else return;
    event.preventDefault();
  };
  at("item-search").addEventListener("input", search);
  at("item-search").addEventListener("keydown", step);
  at("item-found").addEventListener("keydown", step);

  // users
  const user = () => data.users[at("user-pick").value];
  const tiles = (text, n, items) => [
    make("h4", null, `${text} `, make("span", { class: "quiet" }, n > items.length ? `${items.length} of ${many(n, "item")}` : many(n, "item"))),
    make("ul", { class: "strip tiles", tabindex: "0", "aria-label": text }, ...items.map((item) => make("li", null, picture(item, ""), title(item))))];
  const drawUser = () => {
    const { bought, n_bought, kept, n_kept } = user();
    at("user-view").replaceChildren(...tiles("Bought", n_bought, bought), ...tiles("Held out", n_kept, kept));
    const offered = Object.keys(user().lists).map((backbone) => [backbone, backbones[backbone] ?? backbone]);
    const compared = offered.findLast(([backbone]) => Object.keys(user().lists[backbone]).length > 1) ?? offered[0];
    offer(at("user-backbone"), offered, at("user-backbone").value || compared?.[0]);
    drawBackbone();
  };
  const drawBackbone = () => {
    const arms = Object.keys(user().lists[at("user-backbone").value] ?? {}).map((arm) => [arm, armName(arm)]);
    const last = at("list-arm-2").value || arms[arms.length - 1]?.[0];
    offer(at("list-arm-1"), arms, at("list-arm-1").value);
    offer(at("list-arm-2"), arms, arms.some(([arm]) => arm === last) ? last : arms[arms.length - 1]?.[0]);
    at("list-second").hidden = arms.length < 2;
    drawLists();
  };
  const drawLists = () => {
    const { kept, n_kept, lists } = user();
    const found = lists[at("user-backbone").value] ?? {};
    const names = [at("list-arm-1").value, at("list-arm-2").value];
    const isPair = !at("list-second").hidden && names[0] !== names[1];
    const [first, second] = names.map((name) => found[name] ?? []);
    const hits = (list) => list.filter((item) => kept.includes(item)).length;
    const draw = (list, other) => list.map((item, place) => mini(item, ordinal(place + 1),
      [kept.includes(item) ? hit() : null, isPair && other.includes(item) ? both() : null]));
    at("list-1").replaceChildren(...draw(first, second));
    at("list-2").replaceChildren(...draw(second, first));
    const shared = first.filter((item) => second.includes(item)).length;
    const of = `of ${many(n_kept, "held-out item")}`;
    at("user-said").textContent = isPair
      ? `${shared} of ${first.length} items are in both lists. Hits: ${hits(first)} with ${armName(names[0])}, ${hits(second)} with ${armName(names[1])}, ${of}.`
      : `Hits: ${hits(first)} ${of}.${at("list-second").hidden ? " This backbone has one list: it reads no features, or the run has one arm." : ""}`;
  };
  at("user-pick").addEventListener("change", drawUser);
  at("user-backbone").addEventListener("change", drawBackbone);
  for (const id of ["list-arm-1", "list-arm-2"]) at(id).addEventListener("change", drawLists);

  const choose = () => {
    data = datasets[at("item-dataset").value];
    samples = new Map(data.samples.map((sample) => [sample.item, sample]));
    at("item-search").value = "";
    at("item-view").replaceChildren();
    search();
    drawStrips();
    show((data.samples.find((sample) => sample.why === "disagree") ?? data.samples[0]).item, false);
    at("item-users").hidden = !data.users.length;
    if (!data.users.length) return;
    offer(at("user-pick"), data.users.map((each, place) => [String(place), `${each.user_id} (${many(each.n_bought, "item")} bought)`]), "0");
    drawUser();
  };
  offer(at("item-dataset"), datasets.map((each, place) => [String(place), each.title]), "0");
  at("item-datasets").hidden = datasets.length < 2;
  at("item-dataset").addEventListener("change", choose);
  choose();
  at("item-explorer").hidden = false;
})();
