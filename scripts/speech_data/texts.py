"""Sentences in eight languages, written for this project, and words made of random syllables.

``TRAIN`` and ``TEST`` share no sentence. Chinese is written in pinyin with tone numbers, Japanese in hiragana, because
espeak-ng reads those without a dictionary.
"""

from __future__ import annotations

import random

TRAIN: dict[str, list[str]] = {
    "en": [
        "Good morning, my name is Emma and I would like to show you something new.",
        "Please put the big blue box behind the brown bench before breakfast.",
        "Where did you buy those beautiful flowers? They smell wonderful.",
        "My mother makes the best apple pie in the whole village.",
        "I think that we should leave now, because the shops close at five.",
        "Five very fast foxes leave the frozen forest for a farm in the valley.",
        "She sells seven small shells and chooses a cheap pair of shoes.",
        "The weather will be warm and windy, with a few showers near the coast.",
        "Could you open the window? It is rather hot in here.",
        "Numbers help: one, two, three, four, five, six, seven, eight, nine, ten.",
        "Thank you very much for calling, how may I help you today?",
        "We moved the meeting from Monday morning to Wednesday afternoon.",
        "A good book, a warm bed and a cup of tea: what more could you want?",
        "Bob painted a purple map of the pub, and Pam mumbled about the price.",
        "No, I do not know who owns the old yellow boat on the shore.",
        "Turn left at the church, then walk straight on until you reach the bridge.",
        "Nothing is more important than the truth, my father used to say.",
        "Wow, what a huge whale! You could hear its voice for miles.",
    ],
    "de": [
        "Guten Morgen, ich heiße Paul und komme aus einem kleinen Dorf am Bodensee.",
        "Bitte bringen Sie mir ein Glas Wasser und eine Tasse Kaffee mit Milch.",
        "Der Vater baut vor dem Haus eine breite Mauer aus weißen Steinen.",
        "Schöne Bäume blühen im Frühling, und die Vögel singen früh am Morgen.",
        "Wie viel kostet die blaue Jacke im Fenster? Sie gefällt mir sehr.",
        "Eins, zwei, drei, vier, fünf, sechs, sieben, acht, neun, zehn.",
        "Meine Mutter möchte am Montag mit mir auf den Markt gehen.",
        "Peter packt sein Buch, seinen Becher und fünf Pfirsiche in den Beutel.",
        "Ich glaube, dass wir morgen pünktlich um acht Uhr abfahren müssen.",
        "Zwischen den Bergen liegt ein tiefer See mit klarem, kaltem Wasser.",
        "Jeder Mensch braucht Freunde, Ruhe und manchmal auch ein bisschen Mut.",
        "Warum hast du mir nicht früher davon erzählt? Das wäre einfacher gewesen.",
        "Heute scheint die Sonne, aber übermorgen soll es wieder schneien.",
        "Auf dem Tisch stehen Butter, Brot, Pflaumenmus und frische Äpfel.",
    ],
    "es": [
        "Buenos días, me llamo Pablo y vivo en una casa pequeña cerca del mar.",
        "Mi abuela prepara una sopa muy buena con patatas, pimientos y pan.",
        "Por favor, abre la ventana, porque hace mucho calor en esta habitación.",
        "El perro blanco bebe agua debajo de un árbol viejo.",
        "Uno, dos, tres, cuatro, cinco, seis, siete, ocho, nueve, diez.",
        "Mañana vamos a viajar a la montaña con un grupo de amigos.",
        "La vecina me pregunta siempre por mi familia y por mi trabajo.",
        "¿Dónde está la estación? Necesito comprar un billete para el próximo tren.",
        "Los niños juegan al fútbol en la plaza hasta que llega la noche.",
        "Me gusta mucho leer un buen libro cuando llueve por la tarde.",
        "El chico de la camisa amarilla toca muy bien la guitarra.",
        "Muchas gracias por venir, ha sido una fiesta maravillosa.",
    ],
    "fr": [
        "Bonjour, je m'appelle Marie et j'habite dans une petite maison au bord de la mer.",
        "Mon père prépare une bonne soupe avec des pommes de terre et du poivre.",
        "Pouvez-vous fermer la porte, s'il vous plaît ? Il fait froid ici.",
        "Un, deux, trois, quatre, cinq, six, sept, huit, neuf, dix.",
        "Le petit bateau bleu passe sous le vieux pont de la ville.",
        "Nous avons beaucoup marché, puis nous avons bu un café sur la place.",
        "Je voudrais une baguette, du beurre et un peu de fromage, merci.",
        "Demain matin, ma sœur va partir pour Bordeaux avec ses enfants.",
        "La lune brille, les feuilles bougent et tout le monde dort.",
        "Où est la gare ? Je cherche le train de huit heures pour Lyon.",
        "C'est un beau jour pour apprendre une chanson nouvelle.",
        "Les oiseaux chantent tôt le matin dans les arbres du jardin.",
    ],
    "zh": [
        "ni3 hao3, wo3 de5 ming2 zi5 shi4 ma3 li4, wo3 zhu4 zai4 bei3 jing1.",
        "jin1 tian1 tian1 qi4 hen3 hao3, wo3 men5 qu4 gong1 yuan2 san4 bu4 ba5.",
        "wo3 ma1 ma5 mai3 le5 yi4 bei1 cha2 he2 san1 ge4 ping2 guo3.",
        "qing3 wen4, huo3 che1 zhan4 zai4 na3 li3? fei1 chang2 gan3 xie4.",
        "yi1, er4, san1, si4, wu3, liu4, qi1, ba1, jiu3, shi2.",
        "ba4 ba5 bu4 pa4 pao3 bu4, mei3 tian1 zao3 shang5 dou1 pao3 ban4 ge4 xiao3 shi2.",
        "ta1 xi3 huan5 kan4 shu1, ye3 xi3 huan5 ting1 yin1 yue4.",
        "wo3 de5 peng2 you5 zai4 yi1 yuan4 gong1 zuo4, ta1 hen3 mang2.",
        "ming2 tian1 xia4 wu3 wo3 men5 yi4 qi3 qu4 mai3 dong1 xi5.",
        "zhe4 ge4 fang2 zi5 fei1 chang2 da4, men2 qian2 you3 yi4 ke1 lao3 shu4.",
        "fei1 ji1 fei1 guo4 le5 gao1 shan1, feng1 hen3 da4.",
        "lü4 se4 de5 yu3 san3 shi4 nü3 er2 de5.",
    ],
    "hi": [
        "नमस्ते, मेरा नाम मीरा है और मैं भोपाल में रहती हूँ।",
        "आज मौसम बहुत अच्छा है, चलो बाग में घूमने चलें।",
        "मेरी माँ बाज़ार से आलू, प्याज और पपीता लाई।",
        "कृपया खिड़की खोल दो, कमरे में बहुत गर्मी है।",
        "एक, दो, तीन, चार, पाँच, छह, सात, आठ, नौ, दस।",
        "पिताजी सुबह उठकर अखबार पढ़ते हैं और चाय पीते हैं।",
        "बच्चे शाम तक मैदान में फुटबॉल खेलते रहे।",
        "मुझे पुराने गाने सुनना और किताबें पढ़ना पसंद है।",
        "भाई ने बताया कि गाड़ी पाँच बजे यहाँ से जाएगी।",
        "यह सुंदर फूल बगीचे में वसंत के मौसम में खिलता है।",
        "धन्यवाद, आपने मेरी बड़ी मदद की।",
        "पहाड़ के ऊपर एक छोटा सा मंदिर बना हुआ है।",
    ],
    "ar": [
        "مَرْحَبًا، اِسْمِي مَرْيَم وَأَسْكُنُ فِي بَيْتٍ قَرِيبٍ مِنَ البَحْر.",
        "أُمِّي تَطْبُخُ طَعَامًا لَذِيذًا فِي المَطْبَخِ كُلَّ يَوْم.",
        "مِنْ فَضْلِكَ اِفْتَحِ البَابَ، فَالجَوُّ حَارٌّ جِدًّا.",
        "وَاحِد، اِثْنَان، ثَلَاثَة، أَرْبَعَة، خَمْسَة، سِتَّة، سَبْعَة، ثَمَانِيَة.",
        "ذَهَبَ الوَلَدُ إِلَى المَدْرَسَةِ مَعَ صَدِيقِهِ فِي الصَّبَاح.",
        "أُحِبُّ أَنْ أَقْرَأَ كِتَابًا جَمِيلًا فِي المَسَاء.",
        "أَيْنَ المَحَطَّة؟ أُرِيدُ تَذْكِرَةً لِلقِطَارِ القَادِم.",
        "شُكْرًا جَزِيلًا عَلَى المُسَاعَدَةِ، أَنْتَ صَدِيقٌ وَفِيّ.",
        "فِي الحَدِيقَةِ شَجَرَةٌ كَبِيرَةٌ وَعُصْفُورٌ صَغِير.",
        "سَافَرَ أَبِي بِالطَّائِرَةِ إِلَى مَدِينَةٍ بَعِيدَة.",
        "المَطَرُ يَنْزِلُ وَالرِّيحُ قَوِيَّةٌ فَوْقَ الجَبَل.",
        "يَشْرَبُ الطِّفْلُ الحَلِيبَ ثُمَّ يَنَامُ بِهُدُوء.",
    ],
    "ja": [
        "おはようございます、わたしのなまえはゆみです。",
        "きょうはてんきがいいので、こうえんをさんぽしましょう。",
        "ははははなやで、きれいなばらをごほんかいました。",
        "すみません、えきはどこですか。つぎのでんしゃにのりたいです。",
        "いち、に、さん、よん、ご、ろく、なな、はち、きゅう、じゅう。",
        "あたらしいぼうしをかぶって、ともだちとまちへいきます。",
        "まどをあけてください、へやがとてもあついです。",
        "ぱんとばたーとみるくを、まいあさたべています。",
        "ふゆのやまはゆきがふって、とてもしずかです。",
        "ちいさいねこが、つくえのうえでねむっています。",
        "むかしむかし、あるところに、おじいさんとおばあさんがすんでいました。",
        "ありがとうございます、またあしたあいましょう。",
    ],
}

TEST: dict[str, list[str]] = {
    "en": [
        "People from many places may become members before the end of September.",
        "The bus stopped beside a farm, and my brother waved from the front seat.",
        "Would you show me the way to the museum? I have never been there before.",
        "Fresh bread, pepper, beef and a few mushrooms make a simple supper.",
        "Thirty thousand birds flew over the mouth of the river.",
    ],
    "de": [
        "Am Bahnhof wartet eine Frau mit einem blauen Mantel auf ihren Bruder.",
        "Können Sie mir bitte helfen? Ich habe meinen Pass im Büro vergessen.",
        "Fünf Schafe laufen über die Wiese, und der Bauer öffnet das Tor.",
        "Das Problem ist kompliziert, aber wir probieren es noch einmal.",
        "Im Sommer schwimmen viele Menschen im warmen Fluss.",
    ],
    "es": [
        "Un hombre mayor pasea por el parque con su pequeño perro marrón.",
        "¿Puedes ayudarme? He perdido mi bolsa en el mercado.",
        "En verano comemos fruta fresca y bebemos zumo de limón.",
        "El problema no es fácil, pero vamos a probar otra vez.",
    ],
    "fr": [
        "Une femme attend son frère devant la boulangerie du village.",
        "Pouvez-vous m'aider ? J'ai oublié mon passeport au bureau.",
        "En été, beaucoup de monde vient nager dans le fleuve.",
        "Le problème est compliqué, mais nous essayons encore une fois.",
    ],
    "zh": [
        "mei4 mei5 bang1 wo3 ba3 bao1 fang4 zai4 men2 bian1.",
        "xia4 tian1 hen3 duo1 ren2 zai4 he2 bian1 you2 yong3.",
        "ni3 ke3 yi3 bang1 zhu4 wo3 ma5? wo3 wang4 le5 mi4 ma3.",
        "wan3 fan4 wo3 men5 chi1 mian4 bao1 he2 mo2 gu5 tang1.",
    ],
    "hi": [
        "मेरे बड़े भाई ने बस में अपना बैग भुला दिया।",
        "क्या आप मेरी मदद कर सकते हैं? मैं पहली बार यहाँ आया हूँ।",
        "गर्मी में बहुत लोग नदी के पानी में तैरते हैं।",
        "यह समस्या कठिन है, पर हम फिर प्रयास करेंगे।",
    ],
    "ar": [
        "تَنْتَظِرُ المَرْأَةُ أَخَاهَا أَمَامَ بَابِ المَكْتَب.",
        "هَلْ يُمْكِنُكَ مُسَاعَدَتِي؟ نَسِيتُ حَقِيبَتِي فِي السُّوق.",
        "فِي الصَّيْفِ يَسْبَحُ النَّاسُ فِي مَاءِ النَّهْر.",
        "المُشْكِلَةُ صَعْبَةٌ وَلَكِنَّنَا سَنُحَاوِلُ مَرَّةً أُخْرَى.",
    ],
    "ja": [
        "おとうとは、びじゅつかんのまえでばすをまっています。",
        "てつだってもらえますか。かばんをみせにわすれました。",
        "なつには、おおぜいのひとがかわでおよぎます。",
        "もんだいはむずかしいけれど、もういちどためしてみましょう。",
    ],
}

_LATIN = {
    "en": ("b p m f v w d t n l r s z k g h j th sh ch qu y pl br st", "a e i o u ee oo ay oy ow ar or ir aw"),
    "de": ("b p m f w d t n l r s z k g h sch ch pf j st br", "a e i o u ä ö ü ei au eu ie ah oh uh"),
    "es": ("b p m f v d t n l r rr s z c g j ñ ll ch y br", "a e i o u ia ue ie ai"),
    "fr": ("b p m f v d t n l r s z c g ch j gn pl br", "a e i o u ou eau ai oi an on in eu é è u"),
}
_PINYIN = (
    "b p m f d t n l g k h j q x zh ch sh r z c s w y",
    "a o e i u ai ei ao ou an en ang eng ong ia ie iao iu ian in iang ing ua uo ui uan un",
)
_HINDI = ("क ख ग च ज ट ड त द न प फ ब भ म य र ल व श स ह", "- ा ि ी ु ू े ै ो ौ")
_ARABIC = ("ب ت ث ج ح د ذ ر ز س ش ع غ ف ق ك ل م ن ه و ي", "َ ِ ُ َا ِي ُو")
_KANA = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわ"
    "がぎぐげござじずぜぞだでどばびぶべぼぱぴぷぺぽ"
)


def syllables(language: str, rng: random.Random) -> str:
    """A phrase of words that mean nothing, in the writing of the language: every sound in every neighbourhood."""

    def word() -> str:
        count = rng.choice((1, 2, 2, 3))
        if language == "ja":
            return "".join(rng.choice(_KANA) for _ in range(count + 1))
        onsets, vowels = ({"zh": _PINYIN, "hi": _HINDI, "ar": _ARABIC} | _LATIN)[language]
        parts = [rng.choice(onsets.split()) + rng.choice(vowels.split()).strip("-") for _ in range(count)]
        return " ".join(f"{part}{rng.randint(1, 4)}" for part in parts) if language == "zh" else "".join(parts)

    words = [word() for _ in range(rng.randint(4, 9))]
    if rng.random() < 0.5:
        words[rng.randrange(len(words))] += ","
    return " ".join(words) + "."
