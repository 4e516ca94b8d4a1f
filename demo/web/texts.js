// The page's words in both languages.

export const TEXTS = {
  ko: {
    title: "브라우저에서 표정 인식",
    lead: "사진이나 카메라 영상에서 얼굴을 찾고, 얼굴마다 표정의 확률을 보여 줍니다.",
    privacy: "사진과 영상은 이 컴퓨터 밖으로 나가지 않습니다. 얼굴 검출과 인식을 모두 이 브라우저 안에서 합니다.",
    dropTitle: "사진을 여기에 놓으세요",
    dropHint: "누르면 파일을 고를 수 있고, 복사한 사진은 붙여 넣어도 됩니다",
    start: "카메라 켜기",
    stop: "카메라 끄기",
    loading: "모델을 불러오는 중…",
    ready: "준비되었습니다.",
    searching: "얼굴을 찾는 중…",
    found: (count) => `얼굴 ${count}개를 찾았습니다.`,
    noFace: "얼굴을 찾지 못해 사진 전체를 인식했습니다.",
    noFaceLive: "화면에서 얼굴을 찾지 못했습니다.",
    whole: "사진 전체",
    face: (number) => `얼굴 ${number}`,
    sure: (percent) => `검출 점수 ${percent} %`,
    empty: "사진을 넣거나 카메라를 켜면 결과가 여기에 나옵니다.",
    json: "emotion.py가 출력하는 형식으로 보기",
    limitsTitle: "결과를 볼 때 주의할 점",
    limits: "표정을 인식할 뿐 마음을 읽는 것이 아닙니다. 확률은 학습에 쓴 사진의 라벨을 따르므로 틀릴 때가 많으며, 채용·평가·진단처럼 사람에 대한 판단에 쓰면 안 됩니다. 짧은 변의 1/10보다 작은 얼굴은 찾지 않습니다.",
    modelLine: ({ network, classes }) => `모델: ${network}, 클래스 ${classes}개`,
    accuracy: (percent) => `, 검증 정확도 ${percent} %`,
    otherLanguage: "English",
    resultLabel: (answers) => `결과: ${answers}`,
    badPicture: (name) => `${name}: 이 브라우저가 읽을 수 있는 사진이 아닙니다.`,
    noCamera: "카메라를 켤 수 없습니다. 연결되어 있는지, 이 페이지에 허용했는지 확인하세요.",
    noModel: (reason) => `모델을 불러올 수 없습니다: ${reason}`,
    failed: (reason) => `인식하지 못했습니다: ${reason}`,
  },
  en: {
    title: "Facial expressions in the browser",
    lead: "Finds the faces in a photo or in the camera's picture, and shows the probabilities of each face's expressions.",
    privacy: "Your photos and video do not leave this computer. Faces are found and classified within this browser.",
    dropTitle: "Drop a photo here",
    dropHint: "or press to choose a file; a copied photo can be pasted",
    start: "Start the camera",
    stop: "Stop the camera",
    loading: "Loading the models…",
    ready: "Ready.",
    searching: "Looking for faces…",
    found: (count) => (count === 1 ? "1 face found." : `${count} faces found.`),
    noFace: "No face found, so the whole photo was classified.",
    noFaceLive: "No face in the picture.",
    whole: "Whole photo",
    face: (number) => `Face ${number}`,
    sure: (percent) => `detection score ${percent} %`,
    empty: "Results appear here when you add a photo or start the camera.",
    json: "Show as emotion.py prints it",
    limitsTitle: "What an answer means",
    limits: "This recognizes expressions; it does not read minds. The probabilities follow the labels of the photos that the model learnt from, and they are often wrong. Do not use them to judge people, as in hiring, grading or diagnosis. Faces smaller than a tenth of the shorter side are not looked for.",
    modelLine: ({ network, classes }) => `Model: ${network}, ${classes} classes`,
    accuracy: (percent) => `, validation accuracy ${percent} %`,
    otherLanguage: "한국어",
    resultLabel: (answers) => `Result: ${answers}`,
    badPicture: (name) => `${name}: not a picture that this browser can read.`,
    noCamera: "The camera cannot be started. Check that it is connected and that this page may use it.",
    noModel: (reason) => `The model cannot be loaded: ${reason}`,
    failed: (reason) => `The photo could not be classified: ${reason}`,
  },
};

// The classes of the models' data sets, as utils/emotions.py has them; other names stay as they are.
const ENGLISH = {
  기쁨: "happiness", 당황: "embarrassment", 분노: "anger", 불안: "anxiety", 상처: "hurt", 슬픔: "sadness",
  중립: "neutral", 혐오: "disgust", 공포: "fear", 놀람: "surprise", 경멸: "contempt",
};

/** Return a class's name for a narrow place. */
export function shortName(name, language) {
  return (language === "en" && ENGLISH[name.normalize("NFC")]) || name;
}

/** Return a class's name, with the model's own name beside its translation. */
export function className(name, language) {
  const short = shortName(name, language);
  return short === name ? name : `${short} (${name})`;
}
